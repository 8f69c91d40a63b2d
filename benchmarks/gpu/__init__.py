"""Benchmark on an NVIDIA GPU: machine, cases, contenders, measurements and report; `main.py` is the program."""
