"""Candidate sources: the two-tower, and those that need no model."""
