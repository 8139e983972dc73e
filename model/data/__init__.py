"""Training rows, batches and packed sequences."""
