"""A step and a whole edit on the CPU, compared with diffusers, torch.compile, OpenVINO and optimum-onnx."""
