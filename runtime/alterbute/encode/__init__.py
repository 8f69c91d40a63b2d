"""Encodes prompts, identity and scene to the step graph's inputs, cached by content."""
