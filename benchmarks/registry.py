"""Reads a registry while it is changed: is every read whole, and of a version that was live at that
moment?

    python -m benchmarks.registry --json registry.json            10,000 reads while 200 versions are published
    python -m benchmarks.registry --quick --json registry.json    500 reads, 20 versions
    python -m benchmarks.registry --root gs://BUCKET/NAME         in an object store instead of a temporary folder

Two processes publish versions, each its own days; after every fourth they roll back, and prune what
is beyond the newest 50. Four others open the live version all the while, until both have ended and
all reads are done. A read is right when all files say the same, and when its version was live at
some moment between its beginning and its end: the log tells. Versions are as small as can be, so
what is timed is the protocol.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from benchmarks.quality.command import machine, write_whole
from index_builder.registry.pruning import prunable
from index_builder.registry.registry import Entry, Registry
from twinspire_core import storage
from twinspire_core.contracts.manifest import File, Manifest
from twinspire_core.errors import UsageError

NAMES = ("items.txt", "index/data.txt")
FIRST = date(2017, 1, 1)
KEPT = 50
PUBLISHERS = 2
READERS = 4


class Read(NamedTuple):
    """One read.

    Attributes:
      first: number of the log's last entry before it.
      last: the same after it.
      version: what was opened.
      whole: whether its files belong together.
      seconds: how long opening took.
    """

    first: int
    last: int
    version: str
    whole: bool
    seconds: float


class Outcome(NamedTuple):
    """What came of a trial.

    Attributes:
      reads: all of them.
      wrong: those of half a version, or of one that was not live.
      actions: number of log entries by action.
      publishing: seconds of each publication.
    """

    reads: list[Read]
    wrong: list[Read]
    actions: dict[str, int]
    publishing: list[float]


def publish(root: str, first: int, count: int, scratch: str) -> list[float]:
    """Publishes every `PUBLISHERS`-th day from a first one on; seconds of each publication."""
    registry = Registry(root, "p")
    seconds = []
    for n in range(first, first + PUBLISHERS * count, PUBLISHERS):
        home = Path(scratch, str(n))
        for name in NAMES:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(str(n))
        found = storage.list_files(str(home))
        files = {
            file.path: File(sha256=storage.file_digest(file.uri), size=file.size) for file in found
        }
        day = FIRST + timedelta(days=n)
        described = Manifest.create(pipeline="p", day=day, files=files, items=1, dimension=1)
        started = time.monotonic()
        registry.publish(str(home), described, accepted=True, reason="")
        seconds.append(time.monotonic() - started)
        if n // PUBLISHERS % 4 == 3:
            _change(registry, day)
    return seconds


def _change(registry: Registry, day: date) -> None:
    """Rolls back, and prunes; the other publisher may have done either, or made it impossible,
    meanwhile.
    """
    for deed in (
        lambda: registry.rollback(reason="a trial"),
        lambda: [registry.delete(v) for v in prunable(registry, keep=KEPT, keep_days=0, as_of=day)],
    ):
        try:
            deed()
        except UsageError as e:
            print(e, file=sys.stderr)


def read(root: str, count: int, cache: str, ended) -> list[Read]:
    """Opens the live version so many times, and on until all is published."""
    registry = Registry(root, "p")
    found = list[Read]()
    while len(found) < count or not ended.is_set():
        first = _last(root)
        started = time.monotonic()
        home = registry.open(cache=Path(cache))
        seconds = time.monotonic() - started
        texts = {(home / name).read_text() for name in NAMES}
        day = str(FIRST + timedelta(days=int(max(texts, default="-1"))))
        whole = len(texts) == 1 and home.name.startswith(day)
        found.append(Read(first, _last(root), home.name, whole, seconds))
    return found


def _last(root: str) -> int:
    names = storage.list_names(storage.join(root, "p", "log"))
    return max(int(name[:8]) for name in names)


def trial(root: str, scratch: Path, *, versions: int, reads: int) -> Outcome:
    """Publishes `versions` versions and reads at least `reads` times meanwhile."""
    publish(root, 0, 1, str(scratch / "first"))  # so that there is something to read
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(PUBLISHERS + READERS) as pool:
        ended = manager.Event()
        share = -(-reads // READERS)
        readers = [
            pool.apply_async(read, (root, share, str(scratch / f"c{n}"), ended))
            for n in range(READERS)
        ]
        each = versions // PUBLISHERS
        writers = [
            pool.apply_async(publish, (root, n + 1, each, str(scratch / f"s{n}")))
            for n in range(PUBLISHERS)
        ]
        publishing = [seconds for writer in writers for seconds in writer.get()]
        ended.set()
        found = [one for reader in readers for one in reader.get()]
    log = Registry(root, "p").log()
    actions = {action: sum(e.action == action for e in log) for action in {e.action for e in log}}
    return Outcome(found, wrong(log, found), actions, publishing)


def wrong(log: list[Entry], reads: list[Read]) -> list[Read]:
    """Reads of half a version, or of one that was live at no moment of the read."""
    live = {entry.number: entry.live for entry in log}
    return [
        one
        for one in reads
        if not one.whole or one.version not in {live[n] for n in range(one[0], one[1] + 1)}
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer versions and reads")
    parser.add_argument("--root", help="an empty place; a temporary folder by default")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    size = {"versions": 20, "reads": 500} if options.quick else {"versions": 200, "reads": 10_000}
    with tempfile.TemporaryDirectory(prefix="twinspire-registry-") as folder:
        root = options.root or str(Path(folder, "registry"))
        outcome = trial(root, Path(folder), **size)
    rows = [
        _row("reads", len(outcome.reads), "reads"),
        _row("wrong reads", len(outcome.wrong), "reads"),
        *(_row(action, n, "entries") for action, n in sorted(outcome.actions.items())),
        _row("open, median", statistics.median(r.seconds for r in outcome.reads) * 1e3, "ms"),
        _row("publish, median", statistics.median(outcome.publishing) * 1e3, "ms"),
    ]
    for row in rows:
        print(f"{row['metric']:16} {row['value']:10,.1f} {row['unit']}")
    if options.json:
        write_whole(options.json, json.dumps({"machine": machine(), "rows": rows}, indent=1))
    if outcome.wrong:
        sys.exit(f"wrong: {outcome.wrong[:5]}")


def _row(metric: str, value: float, unit: str) -> dict:
    case = "readers beside publishers"
    return {
        "case": case,
        "contender": "twinspire/registry",
        "metric": metric,
        "value": value,
        "unit": unit,
    }


if __name__ == "__main__":
    main()
