"""Edits of photos: their size, colour space and depth, and the two ways of pasting."""
