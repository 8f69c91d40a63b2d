"""Engines: a bundle's graphs built into TensorRT plans by a recipe, in a child process, listed in the manifest."""
