"""Months of training on, against training anew: `python -m benchmarks.freshness --case months`."""
