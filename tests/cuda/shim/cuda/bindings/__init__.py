"""Stands where cuda-python would, over the stand-in of CUDA."""

__version__ = "13.0.3"
