"""The pipeline file: its tables, and the kinds of feature that it can declare."""
