"""What NumPy's threads do between matrix products, in a process of the command line."""

import os
import subprocess
import sys

IDLE = """
import time
from twinspire.cli import main as cli

def rest():
    import numpy as np
    matrix, used = np.ones((512, 512), np.float32), 0.0
    for _ in range(20):
        matrix @ matrix
        before = time.process_time()
        time.sleep(0.03)
        used += time.process_time() - before
    print(used)

cli.app = rest
cli.main()
"""


def test_threads_of_matrix_products_sleep_when_there_is_nothing_to_multiply():
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    done = subprocess.run(
        [sys.executable, "-c", IDLE], env=env, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 0.04  # some .4 where they spin
