"""Requests, checked and turned into rows of query features."""
