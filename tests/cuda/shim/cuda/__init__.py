"""Stands where cuda-python would, over the stand-in of CUDA."""
