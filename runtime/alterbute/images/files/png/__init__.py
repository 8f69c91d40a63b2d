"""PNG files: their chunks, and exact pixels."""
