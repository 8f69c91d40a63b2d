"""torch modules of the graphs that diffusers does not have in an exportable form."""
