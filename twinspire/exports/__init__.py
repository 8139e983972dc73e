"""Exports of a version's items to vector databases and files."""
