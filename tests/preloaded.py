"""What the server of warm.py imports before it forks anything: all stages, as the runner imports
them.
"""

from importlib import import_module

from twinspire.runs.cache_keys import STAGES
from twinspire_core.blocked_imports import block_import

with block_import("keras"):
    for module in (
        *(stage.module for stage in STAGES.values()),
        "twinspire.cli.show_lists",
        "serving.batch.bulk",
    ):
        import_module(module)
