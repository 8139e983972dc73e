"""Answers: lists of items, and why they are as they are."""
