"""Quality beside other recommenders: the same split, the same scorer. `python -m benchmarks.quality
--help`.
"""
