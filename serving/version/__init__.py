"""A published version, opened for answering."""
