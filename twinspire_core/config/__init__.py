"""The pipeline file: its sections, and the kinds of feature that it can declare."""
