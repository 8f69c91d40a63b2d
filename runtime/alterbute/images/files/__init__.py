"""Picture files: headers, decoding under limits, and encoding."""
