"""Renderer of the demo's training pictures and exact ground truth."""
