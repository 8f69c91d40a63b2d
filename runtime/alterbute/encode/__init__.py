"""Encoding of prompt, identity and scene to the arrays that the step graph reads, cached by content."""
