"""The KServe v2 inference protocol, which Triton's client uses, too."""
