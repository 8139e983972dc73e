"""What every stage may use: configuration, storage, contracts, search, sources, metrics. Imports
nothing of ours.
"""
