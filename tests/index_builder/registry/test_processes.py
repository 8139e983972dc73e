"""Processes that publish at once, or are killed. Asked is only what a reader sees."""

import contextlib
import random
import signal
import subprocess
import sys
import textwrap
import time
from datetime import date, timedelta

import pytest

from tests.index_builder.registry.staging import ONE, contents, staged

PUBLISHER = """
    import sys
    from datetime import date, timedelta
    from pathlib import Path
    from twinspire_core.contracts.manifest import File, Manifest
    from index_builder.registry.registry import Registry
    from twinspire_core import storage
    root, scratch, first, step, count = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(first, first + step * count, step):
        (scratch / str(n) / "index").mkdir(parents=True)
        for name in ("items.txt", "index/data.txt"):
            (scratch / str(n) / name).write_text(str(n))
        found = storage.list_files(str(scratch / str(n)))
        files = {f.path: File(sha256=storage.file_digest(f.uri), size=f.size) for f in found}
        day = date(2018, 1, 1) + timedelta(days=n)
        described = Manifest.create(pipeline="p", day=day, files=files, items=1, dimension=2)
        Registry(root, "p").publish(str(scratch / str(n)), described, accepted=True, reason="")
"""


@pytest.fixture
def start(registry, tmp_path):
    """Starts processes that publish days, once they are told to go."""
    with contextlib.ExitStack() as stack:

        def start(first, step, count):
            arguments = [
                registry.root,
                str(tmp_path / f"scratch-{random.random()}"),
                *map(str, (first, step, count)),
            ]
            command = [sys.executable, "-c", textwrap.dedent(PUBLISHER), *arguments]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = stack.enter_context(subprocess.Popen(command, **pipes))
            process.stdout.readline()
            return process

        yield start


def go(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def test_processes_that_publish_at_once_leave_one_history(registry, start, tmp_path):
    """Three publish their own days, and a fourth the same as the first."""
    shares = [(0, 3, 4), (1, 3, 4), (2, 3, 4), (0, 3, 4)]
    processes = [start(*share) for share in shares]
    for process in processes:
        go(process)
    for process in processes:
        assert process.wait(60) == 0
    log = registry.log()
    assert len(log) == 12 and [e.number for e in log] == list(range(1, 13))
    days = [e.version[:10] for e in log]
    assert sorted(days) == [str(date(2018, 1, 1) + timedelta(days=n)) for n in range(12)]
    assert [e.live[:10] for e in log] == [max(days[: n + 1]) for n in range(12)], (
        "an older day is never live"
    )
    assert contents(registry, tmp_path / "cache") == {"11"}


def test_killed_at_any_moment_nothing_half_written_is_live(registry, start, tmp_path):
    registry.publish(*staged(tmp_path / "old", ONE, "old"), accepted=True, reason="")
    moments = random.Random(7)
    for _ in range(4):
        process = start(0, 1, 100)
        go(process)
        time.sleep(moments.uniform(0.02, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(contents(registry, tmp_path / "cache")) == 1
        assert len(registry.log()) == len({e.version for e in registry.log()})
    process = start(0, 1, len(registry.log()))
    go(process)
    assert process.wait(60) == 0
    assert all(registry.verify(e.version) for e in registry.log())
