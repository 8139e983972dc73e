"""Ragged lists, exact nearest neighbours, and the index protocol with ScaNN behind it."""
