"""Graphs in fp16 and bf16: which operators are converted, where casts stand, and what would overflow."""
