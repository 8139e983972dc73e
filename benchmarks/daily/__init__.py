"""What benchmarks/day.py runs and counts."""
