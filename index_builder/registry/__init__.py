"""Where versions are published, and what became of them."""
