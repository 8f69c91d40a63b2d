"""CUDA memory, streams and copies, shared by the backends that run on a GPU."""
