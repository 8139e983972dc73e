"""What benchmarks/gate.py runs and counts."""
