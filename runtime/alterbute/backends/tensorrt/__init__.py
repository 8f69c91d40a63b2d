"""TensorRT and TensorRT-RTX: prebuilt engines, one per graph."""
