"""JPEG files: their structure, and pixels of which none is missing."""
