"""What the server of warm.py imports before it forks anything: all stages, as the runner imports
them.
"""

import os

from twinspire.runs.stages import STAGES
from twinspire_core.native_code import block_import

os.fsync = lambda handle: None  # as in conftest.py
with block_import("keras"):
    for stage in STAGES.values():
        stage.load()
    import twinspire.cli.ask  # noqa: F401
