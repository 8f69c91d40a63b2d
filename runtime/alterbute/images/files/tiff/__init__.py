"""TIFF files: their header, and whether their strips hold all pixels."""
