"""An opened index is in memory."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# In a separate process: reading a mapped file past its end kills by SIGBUS.
CUT_SHORT = """
import os, pathlib, sys
import numpy as np
from twinspire_core.search.index import Settings, load_index
from twinspire_core.search.scann_index import ScannIndex

folder = pathlib.Path(sys.argv[1])
vectors = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
ScannIndex.build(vectors, Settings(kind="quantised", k=10, rescored=50)).save(folder)
index = load_index(folder)
for file in folder.rglob("*.*"):
    os.truncate(file, 0)
rows, _ = index.search(vectors[:20], 10)  # by codes, then exactly
assert (rows[:, 0] == np.arange(20)).all()
rows, _ = index.search(vectors[:20], 2000)  # all of it, exactly
assert (rows[:, 0] == np.arange(20)).all()
print("answered", (index.vectors == vectors).all())
"""


def test_files_that_are_cut_short_later_change_nothing(tmp_path):
    command = [sys.executable, "-c", CUT_SHORT, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "answered True\n"), done.stderr[-2000:]
