"""Recommendations for whole files of requests."""
