"""The files between stages, each declared once."""
