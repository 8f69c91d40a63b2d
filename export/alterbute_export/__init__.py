"""Torch side: reads a checkpoint and writes a bundle that the runtime serves."""
