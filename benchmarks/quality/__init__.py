"""Quality beside other recommenders: the same split, the same scorer. `python benchmarks/quality.py
--help`.
"""
