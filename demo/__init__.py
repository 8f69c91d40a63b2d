"""Renderer, training and quality measure of the demo checkpoint; not part of the wheel."""
