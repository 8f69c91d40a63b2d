"""What every benchmark shares: machine facts, timing, result files, tables and plots."""
