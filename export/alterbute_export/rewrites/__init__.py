"""Rewrites of exported graphs for ONNX Runtime: fused attention, folded upsampling, uint8 inputs."""
