"""ONNX files: written with external weights, read, and run in ONNX Runtime."""
