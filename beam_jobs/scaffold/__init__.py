"""A pipeline file for given logs: drafted from a sample, and checked against the data. No Beam."""
