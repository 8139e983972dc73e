"""Answers: lists of items, with their reasons and warnings."""
