"""Benchmarks of cost and quality, compared with other tools. Run them as `python -m benchmarks.NAME`."""
