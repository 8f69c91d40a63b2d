"""Rewrites of a step graph's transformers, time embedding and ends for ONNX Runtime's CUDA provider."""
