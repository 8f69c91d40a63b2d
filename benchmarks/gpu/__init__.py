"""Times on an NVIDIA GPU: machine, cases, contenders, measures and report, one file each; `main.py` runs them."""
