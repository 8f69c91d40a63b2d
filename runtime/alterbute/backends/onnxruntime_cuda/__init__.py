"""ONNX Runtime on an NVIDIA GPU: a bundle's graphs on its CUDA execution provider."""

from __future__ import annotations

from alterbute.backends.onnxruntime_cuda.cuda_backend import OnnxRuntimeCudaBackend

__all__ = ["OnnxRuntimeCudaBackend"]
