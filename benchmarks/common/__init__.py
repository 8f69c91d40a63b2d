"""Helpers of all benchmarks: machine facts, timing, result files, tables and plots."""
