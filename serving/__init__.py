"""Reads a published version and answers requests from it."""
