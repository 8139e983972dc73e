"""Metrics of ranked lists: ranking, diversity, slices of users and items, bootstrap intervals."""
