"""Parts of `benchmarks.peers` and `benchmarks.peers_edit`: contenders, and turns that are processes of their own."""
