"""Reading a checkpoint: folder layouts, settings, model classes, weights, and files that are merged into them."""
