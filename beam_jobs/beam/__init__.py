"""Runs Beam jobs, and encodes Arrow batches for them."""
