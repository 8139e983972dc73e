"""Steps of the embed job: rows are read, vectors of unchanged items are reused, users are drawn, a tower
is called.
"""
