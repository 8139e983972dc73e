"""Evaluation sets, and the measures of versions on them."""
