"""Rewrites of exported graphs for ONNX Runtime's CUDA provider: layout, fused operators, a prologue, and their definitions."""
