"""Encoding: prompt, identity and scene become the arrays that the step graph reads; kept in a cache by content."""
