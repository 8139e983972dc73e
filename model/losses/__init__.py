"""Losses, negatives, and the sampling probabilities that correct them."""
