"""Whether a version may go live."""
