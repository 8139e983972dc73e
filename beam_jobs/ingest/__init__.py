"""A day's files -> records: where they lie, what form they have, and which records break a rule. No
Beam.
"""
