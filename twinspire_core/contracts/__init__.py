"""What lies on disk between stages, each thing declared once."""
