"""Raw logs before the first day: `twinspire partition` lays them out as one folder per day. No
Beam.
"""
