"""Step-level batching beside request-level batching."""
