"""Fits and measures the fusion of candidate sources."""
