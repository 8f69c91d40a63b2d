"""The parts of `benchmarks/gpu.py`: machine, cases, contenders, measures and report, one file each."""
