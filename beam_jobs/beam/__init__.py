"""How Beam jobs are run, and how Arrow batches travel in them."""
