"""Files that are read, and kept, together: small files of a day, or one large one, part by part.

What is read of a part of a pack is the same for every run whose settings and files are the same:
it is not cut to the days that a run looks at. read_steps.py does that.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple, TypeAlias

import numpy as np
import polars as pl

from beam_jobs import day_plan
from beam_jobs.features.counters import Count, Counted, count, count_of
from beam_jobs.ingest import columns, record_blocks
from beam_jobs.ingest.day_files import SourceFile, Table
from beam_jobs.ingest.record_blocks import KEPT_PER_FILE, Rejected
from beam_jobs.ingest.records import RecordChecker, UserEventLimit
from beam_jobs.point_in_time.event_types import relevant_types
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import partials
from twinspire_core.contracts.forgotten_users import WITHHELD, ForgottenUsers
from twinspire_core.records.raw_files import format_of

KIND = "events"
FORMAT = 1
"""Of what is kept; raised when `read_events` comes to mean something else."""
PACKED_BYTES = 4 << 20
"""Size of raw files that are read by one call, roughly."""

Found: TypeAlias = pl.DataFrame | Count | Rejected
"""Good records, counts, and records that break a rule."""
Slice: TypeAlias = tuple[int, int | None]
"""A file by its number in the pack, and a part of it as `record_blocks.parts` names it."""


class Pack(NamedTuple):
    """Files of one table and day.

    Attributes:
      files: one, or several small ones.
      first: number of the first of them among all of the table's.
      stem: of the partial of what is read of them, None if it is not to be kept.
      parts: parts of that partial; 0 if it is not there.
    """

    files: tuple[SourceFile, ...]
    first: int
    stem: str | None = None
    parts: int = 0

    @property
    def table(self) -> Table:
        """The files' table."""
        return self.files[0].table

    @property
    def day(self) -> date:
        """The date in the name of the files' folder."""
        return self.files[0].day

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(file.size for file in self.files)


class PackPart(NamedTuple):
    """What one call reads of a pack.

    Attributes:
      pack: the pack.
      part: its number, from 0.
      parts: of how many.
    """

    pack: Pack
    part: int
    parts: int


def packed(days: Iterable[Sequence[SourceFile]]) -> list[Pack]:
    """Puts small files of a day together, without partials.

    Args:
      days: files of one table, by day.
    """
    packs: list[Pack] = []
    number = 0
    for files in days:
        room = 0
        for place, file in enumerate(files):
            if place and file.size <= room:
                packs[-1] = packs[-1]._replace(files=(*packs[-1].files, file))
            else:
                packs.append(Pack((file,), number))
                room = PACKED_BYTES
            room -= file.size
            number += 1
    return packs


def with_partials(p: Pipeline, packs: Sequence[Pack], folder: str) -> list[Pack]:
    """The same packs of events, with the partials that they have, or are to have.

    Args:
      packs: of files with digests; without one, a file's pack is read, and not kept.
    """
    settings = _settings(p)
    there = partials.whole(folder)
    kept = []
    for pack in packs:
        if any(file.digest is None for file in pack.files):
            kept.append(pack)  # it has come while the run was planned: what it is nobody knows
            continue
        stem = partials.stem(folder, pack.day, KIND, _key(settings, p, pack))
        kept.append(pack._replace(stem=stem, parts=there.get(stem, 0)))
    return kept


def _settings(p: Pipeline) -> dict[str, object]:
    """All of the pipeline file that `read_events` looks at."""
    return {
        "format": FORMAT,
        "columns": [repr(column) for column in columns.events(p)],
        "reward_clip": p.columns.reward_clip,
        "types": sorted(relevant_types(p)),
        "time_zone": p.pipeline.time_zone,
        "late_days": p.source.late_days,
        "max_user_events": p.source.max_user_events,
    }


def _key(settings: Mapping[str, object], p: Pipeline, pack: Pack) -> str:
    # By content and form: where a file lies and how it is called does not matter, but its ending
    # says how it is read.
    files = [
        (file.digest, format_of(file.uri, p.source.format), file.uri.endswith(".gz"))
        for file in pack.files
    ]
    facts = {**settings, "day": str(pack.day), "files": files}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def together(packs: Iterable[Pack]) -> list[list[Pack]]:
    """Groups small packs of a table, so that many days of few events are not many batches of few
    rows.
    """
    groups: list[list[Pack]] = []
    room = 0
    for pack in packs:
        if not groups or pack.size > room or pack.table != groups[-1][0].table:
            groups.append([])
            room = PACKED_BYTES
        groups[-1].append(pack)
        room -= pack.size
    return groups


def cut(group: Sequence[Pack], given_format: str) -> Iterator[list[PackPart]]:
    """What is read by one call: all of several packs, or one part of a large one."""
    parts = []
    for pack in group:
        number = pack.parts or len(slices(pack, given_format))
        parts += [PackPart(pack, part, number) for part in range(number)]
    if len(group) == 1:
        yield from ([part] for part in parts)
    else:
        yield parts


def slices(pack: Pack, given_format: str) -> list[list[Slice]]:
    """What each part of a pack has of its files: each a part of the only file; or all of several."""
    all_slices = [
        (number, part)
        for number, file in enumerate(pack.files)
        for part in record_blocks.parts(given_format, file)
    ]
    if len(pack.files) > 1:
        return [all_slices]
    return [[one] for one in all_slices]


def read_events(p: Pipeline, pack: Pack, part: int, forgotten: ForgottenUsers) -> Iterator[Found]:
    """Reads a part of a pack of events, but for those of forgotten users.

    Yields:
      Events of the types that are used, with `_order`, as if the pack's were the only files, and
      `_day`, the number of the day that they belong to; counts; rejected records.

    Raises:
      BadData: a file cannot be read, or lacks a column.
    """
    types = relevant_types(p)
    for number, file_part in slices(pack, p.source.format)[part]:
        file = pack.files[number]
        limit = UserEventLimit(p.source.max_user_events)
        for found in read_records(p, file, number, file_part, columns.events(p), forgotten):
            if isinstance(found, pl.DataFrame):
                yield from _relevant(p, file, found, types, limit)
            else:
                yield found


def read_records(
    p: Pipeline,
    file: SourceFile,
    place: int,
    part: int | None,
    wanted: Sequence[columns.Column],
    forgotten: ForgottenUsers,
) -> Iterator[Found]:
    """Reads a part of a file: records that break no rule and are not of forgotten users; counts; the
    first rejected ones.
    """
    checker = RecordChecker(p, file, place, wanted)
    room = KEPT_PER_FILE
    for block in record_blocks.read(p.source.format, file, part, wanted):
        if isinstance(block, Rejected):
            # A whole line, whose user nobody can tell
            rejected = [block._replace(value=WITHHELD) if forgotten else block]
            reasons = {block.reason: 1}
        else:
            checked = checker.take(block)
            rejected = checked.rejected
            reasons = checked.reasons
            yield count_of(file, Counted.GOOD, len(checked.good))
            for what, n in checked.misplaced.items():
                yield count_of(file, Counted(what), n)
            yield forgotten.drop(checked.good)
        for reason, n in reasons.items():
            yield count_of(file, Counted.REJECTED, n, reason)
        yield from rejected[:room]
        room = max(0, room - len(rejected))
    for column in checker.close():
        yield count_of(file, Counted.ABSENT, 1, column.use)
    yield count_of(file, Counted.PARTS, 1)


def _relevant(
    p: Pipeline, file: SourceFile, rows: pl.DataFrame, types: set[str], limit: UserEventLimit
) -> Iterator[Found]:
    """The events of types that are used, with the day that they belong to; counts of others."""
    folder_day = day_plan.number(file.day)
    rows = rows.with_columns(pl.lit(folder_day, pl.Int32).alias("_day"))
    if p.source.late_days:
        rows = rows.with_columns(_calendar_day(p, file.day, rows["_time"]))
        late = rows.filter(pl.col("_day") < folder_day)
        yield from _by_day(Counted.STRAGGLERS, late)
    if "_type" in rows.columns:
        for event_type, n in rows["_type"].value_counts().iter_rows():
            yield count_of(file, Counted.TYPES, n, event_type or "")
    # Here, and not later: what is neither a positive nor in a history need not be shuffled, or kept.
    if "_type" in rows.columns and types:
        rows = rows.filter(pl.col("_type").is_in(list(types)))
    within_limit = limit.take(rows)
    if len(within_limit) < len(rows):
        yield from _by_day(Counted.EXCESS, rows.join(within_limit, on="_order", how="anti"))
    yield within_limit


def _calendar_day(p: Pipeline, folder_day: date, times: pl.Series) -> pl.Series:
    """The number of the day that each event of a folder is of, as `_day`."""
    # The starts of the days that events of this folder may be of, oldest first; an event's day is
    # the last one that has begun by its time.
    days_before = range(p.source.late_days, -1, -1)
    starts = [day_plan.start_of(folder_day - timedelta(days=n), p.zone) for n in days_before]
    begun = np.searchsorted(starts, times.to_numpy(), side="right")
    return pl.Series("_day", day_plan.number(folder_day) - len(starts) + begun, pl.Int32)


def _by_day(what: Counted, rows: pl.DataFrame) -> Iterator[Count]:
    """Counts of events by the day that they belong to."""
    for day, n in rows["_day"].value_counts().iter_rows():
        yield count(what, "events", day_plan.date_of(day), n)
