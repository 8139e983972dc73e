"""What benchmarks/index.py compares, each contender in processes of its own."""
