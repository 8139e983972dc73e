"""The day's statistics and whether they are usual."""
