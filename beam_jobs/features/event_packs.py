"""Which files are read, and kept, together: small files of a day, or one large file, part by part.

What is read of a part of a pack is the same for every run whose settings and files are the same: it is
not cut to the days that a run looks at. read_steps.py does that.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import NamedTuple, TypeAlias

from beam_jobs.ingest import day_files
from beam_jobs.point_in_time.job import FeatureJob
from beam_jobs.point_in_time.user_shard import relevant_types
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.records.raw_files import format_of
from twinspire_core.records.record_file import RecordFile

KIND = "events"
FORMAT = 1
"""Of the partials; raised when the same logs give other partials than before."""
PACKED_BYTES = 4 << 20
"""Size of raw files that are read by one call, roughly."""
Slice: TypeAlias = tuple[int, int | None]
"""A file by its number in the pack, and a part of it as `RecordFile.parts` names it."""


class Pack(NamedTuple):
    """Files of one table and day.

    Attributes:
      files: one, or several small ones.
      first: number of the first of them among all files of the table.
      stem: beginning of the URIs of the partial; None if what is read is not kept.
      parts: parts of that partial; 0 if no run has written it yet.
    """

    files: tuple[day_files.SourceFile, ...]
    first: int
    stem: str | None = None
    parts: int = 0

    @property
    def table(self) -> day_files.Table:
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
    """What one call reads of a pack: part number `part`, from 0, of `parts`."""

    pack: Pack
    part: int
    parts: int


def plan_packs(job: FeatureJob) -> list[list[Pack]]:
    """All that a run reads, in groups that are read together."""
    events = _packed(job.inputs.events.values())
    if job.partials is not None:
        events = _with_partials(job, events, job.partials)
    # Late events come after all others in the order of the logs. Their packs have no partials: only
    # some files of these folders are read, and the run of the folder's own day keeps them all.
    number = sum(len(pack.files) for pack in events)
    events += [
        pack._replace(first=number + pack.first) for pack in _packed(job.late.files.values())
    ]
    return _together([*events, *_packed(job.inputs.users.values())])


def _packed(days: Iterable[Sequence[day_files.SourceFile]]) -> list[Pack]:
    """Puts small files of a day together. The files are of one table, given day by day."""
    packs: list[Pack] = []
    number = 0
    for files in days:
        room = 0
        for place, file in enumerate(files):
            # A file larger than the room is a pack of its own, which is read in parts.
            if place and file.size <= room:
                packs[-1] = packs[-1]._replace(files=(*packs[-1].files, file))
            else:
                packs.append(Pack((file,), number))
                room = PACKED_BYTES
            room -= file.size
            number += 1
    return packs


def _with_partials(job: FeatureJob, packs: Sequence[Pack], folder: str) -> list[Pack]:
    """The same packs of events, with the partials that they have or will have in a folder."""
    p = job.p
    # All of the pipeline file that reading events depends on.
    settings = {
        "format": FORMAT,
        "columns": [repr(column) for column in job.columns["events"]],
        "reward_clip": p.columns.reward_clip,
        "types": sorted(relevant_types(p)),
        "time_zone": p.pipeline.time_zone,
        "late_days": p.source.late_days,
        "max_user_events": p.source.max_user_events,
    }
    parts_by_stem = attempts.whole_partials(folder)
    kept = []
    for pack in packs:
        # A file that came while the run was planned has no digest, so its pack has no key.
        if all(file.digest is not None for file in pack.files):
            stem = attempts.partial_stem(folder, pack.day, KIND, _key(settings, p, pack))
            pack = pack._replace(stem=stem, parts=parts_by_stem.get(stem, 0))
        kept.append(pack)
    return kept


def _key(settings: Mapping[str, object], p: Pipeline, pack: Pack) -> str:
    # By content and form: the place and the name of a file do not matter, but its ending says how it
    # is read.
    files = [
        (file.digest, format_of(file.uri, p.source.format), file.uri.endswith(".gz"))
        for file in pack.files
    ]
    # The day too: whether an event is late depends on the folder that it lies in.
    facts = {**settings, "day": str(pack.day), "files": files}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _together(packs: Iterable[Pack]) -> list[list[Pack]]:
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
        for part in RecordFile.of(file.uri, given_format).parts()
    ]
    return [all_slices] if len(pack.files) > 1 else [[slice_] for slice_ in all_slices]
