"""What prints the figures in docs/benchmarks.md."""
