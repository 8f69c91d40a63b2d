"""The renderer that makes the demo's training pictures and ground truth."""
