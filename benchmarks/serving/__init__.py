"""Step-level batching under load, compared with request-level batching."""
