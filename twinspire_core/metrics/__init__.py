"""Metrics of ranked lists (`list_metrics`), and how sure their means are (`intervals`)."""
