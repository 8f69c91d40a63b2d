"""How the demo checkpoint is made: renderer, training, quality measure. Not part of the wheel."""
