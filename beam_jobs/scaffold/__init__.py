"""A pipeline file for given logs: drafted from samples and from figures of the whole log, and checked
against the data. No Beam.
"""
