"""Finds, or inherits, the settings of an index."""
