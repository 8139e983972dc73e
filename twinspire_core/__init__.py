"""Code that every stage may use: configuration, storage, contracts, search, sources, metrics. It imports no
other package of this project.
"""
