"""What it costs and how good it is, beside others. Each runs as `python -m benchmarks.NAME`."""
