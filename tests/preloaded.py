"""What the server of warm.py imports before it forks anything: all stages, as the runner imports them."""

from importlib import import_module

from twinspire.hiding import hidden
from twinspire.keys import STAGES

with hidden("keras"):
    for module in (*(stage.module for stage in STAGES.values()), "serving.show", "serving.bulk"):
        import_module(module)
