"""Reading a checkpoint: folder layouts, settings, model classes and weights, and the LoRA and embedding files merged into them."""
