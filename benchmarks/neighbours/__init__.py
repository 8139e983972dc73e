"""The contenders of benchmarks/index.py, each in its own processes."""
