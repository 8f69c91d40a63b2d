"""One program per question about speed, memory and fidelity; raw results as JSON in `results/`."""
