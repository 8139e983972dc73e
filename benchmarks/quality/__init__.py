"""Compares quality with other recommenders, on the same splits and with the same scorer:
`python -m benchmarks.quality --help`.
"""
