"""Asking what is live as users do, and judging it by the limits of the pipeline file."""
