"""Forgetting users: what is changed, what goes, and what still holds them."""
