"""The KServe v2 inference protocol (also spoken by Triton's client)."""
