"""A Flink cluster on this machine, from packages, for people to try and for tests."""
