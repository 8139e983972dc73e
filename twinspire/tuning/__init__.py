"""A search for training settings on earlier days."""
