"""Metadata of picture files: captions, copyright, resolution; and where an edited picture comes from."""
