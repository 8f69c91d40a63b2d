"""Writing of picture files: lossless formats, with colour and metadata."""
