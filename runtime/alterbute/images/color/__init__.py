"""Colour: profiles and tags of picture files, and conversion to and from sRGB, which the model sees."""
