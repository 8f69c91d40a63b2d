"""AVIF and HEIC files: their boxes, their header, the sizes of their coded pictures, and the pixels of HEIC."""
