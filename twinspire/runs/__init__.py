"""Runs of a day's stages: their order, inputs, leases and commits."""
