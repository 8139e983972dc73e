"""The day's statistics in TFDV's format, and whether they are usual."""
