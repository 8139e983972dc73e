"""Optimizers on variables and on single rows of embedding tables."""
