"""A step and a whole edit on the CPU beside diffusers, torch.compile, OpenVINO and optimum-onnx."""
