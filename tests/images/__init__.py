"""Tests of picture files: reading, writing, colour and metadata."""
