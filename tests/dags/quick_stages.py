"""`python quick_stages.py -m twinspire …`: the real command line, runner and registry over stages
that take no time.

For tests of the order of many days: what is made does not matter there, only when, and from which
parent.
"""

import hashlib
import json
import os
import signal
import sys
import time
from datetime import date
from pathlib import Path
from types import ModuleType

STAGES = (
    "beam_jobs.features_stage",
    "model.train_stage",
    "model.measure_stage",
    "beam_jobs.embed_stage",
    "index_builder.index_stage",
    "index_builder.publish_stage",
)


def make(ctx):
    """Writes a file, the earlier days more slowly, so that later ones would overtake them if they
    could.
    """
    time.sleep(max(0, 2 - (ctx.day - OLDEST).days))
    Path(ctx.out).mkdir(parents=True)
    (Path(ctx.out) / "made.txt").write_text(f"{ctx.day} after {ctx.parent and ctx.parent.version}")
    return {}


def features(ctx):
    """The day of QUICK_HELD waits until there is a file `go` next to the logs."""
    go = Path(os.environ["QUICK_LOGS"], "go")
    if f"{ctx.pipeline.name} {ctx.day}" == os.environ.get("QUICK_HELD"):
        while not go.exists():
            time.sleep(0.2)
    return make(ctx)


def train(ctx):
    """On QUICK_KILLED it is killed, as if it had run out of memory, until there is a file `mended`
    beside the logs.
    """
    mended = Path(os.environ["QUICK_LOGS"], "mended").exists()
    if str(ctx.day) == os.environ.get("QUICK_KILLED") and not mended:
        os.kill(os.getpid(), signal.SIGKILL)
    return make(ctx)


def measure(ctx):
    """Measures nothing, for the summary to show."""
    nothing = {"users": 0, "candidate": None, "baseline": None, "baselines": {}}
    summary = make(ctx)
    (Path(ctx.out) / "metrics.json").write_text(
        json.dumps({"progressive": None, "baselines": {}, "holdout": nothing})
    )
    return summary


def publish(ctx):
    """Publishes that file."""
    from index_builder.registry.registry import Registry
    from twinspire_core.contracts.version_manifest import File, Manifest

    summary = make(ctx)
    data = (Path(ctx.out) / "made.txt").read_bytes()
    described = Manifest.create(
        pipeline=ctx.pipeline.name,
        day=ctx.day,
        files={"made.txt": File(sha256=hashlib.sha256(data).hexdigest(), size=len(data))},
        parent=ctx.parent.version if ctx.parent else None,
        items=1,
        dimension=1,
        sources={stage: ctx.inputs[stage] for stage in ("train", "measure")},
    )
    registry = Registry(ctx.pipeline.registry.root, ctx.pipeline.name)
    entry = registry.publish(ctx.out, described, accepted=True, reason="quick", promote=ctx.promote)
    return {**summary, "version": described.version, "live": entry.live}


OLDEST = min(
    date.fromisoformat(home.name[3:]) for home in Path(os.environ["QUICK_LOGS"], "events").iterdir()
)
OWN = {"features": features, "train": train, "measure": measure, "publish": publish}
for name in STAGES:
    sys.modules[name] = module = ModuleType(name)
    stage = name.split(".")[1].removesuffix("_stage")
    module.run = OWN.get(stage, make)

if __name__ == "__main__":
    from twinspire.cli.main import main

    sys.argv = ["twinspire", *sys.argv[3:]]
    main()
