"""Cases and replays of benchmarks/gate.py."""
