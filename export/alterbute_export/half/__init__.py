"""Graphs in fp16 and bf16: the choice of operators, the casts between precisions, and the search for overflow."""
