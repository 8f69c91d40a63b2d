"""torch modules that graphs are built from and that diffusers does not have in an exportable form."""
