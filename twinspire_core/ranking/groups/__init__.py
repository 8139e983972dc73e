"""Features by what they know: a group of them in each module."""
