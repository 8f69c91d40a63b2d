"""Reading a checkpoint: folder layouts, settings, model classes and weights, and what is merged into them."""
