import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
# In this order: the package `serving`, not its benchmark
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
