"""What a version is measured on, and how."""
