"""What forgetting users changes and deletes under `work_root`.

Committed attempts are mended in place, which is the one change that is made to them: their markers,
and so their keys and what is done, stay as they are (docs/decisions/0073-forgetting.md). Partials go,
as any run makes them again.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.features import event_packs, event_partials
from twinspire.forgetting.file_contents import UserFiles, Users
from twinspire.runs import lease_records, run_leases
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts, partials

_ABANDONED = 3600
"""Seconds since an attempt without a marker was last written to, after which nobody is at work on it."""


class Change(NamedTuple):
    """What becomes of a place.

    Attributes:
      uri: a file, or a folder with all that is in it.
      content: of the file from now on; None: it is deleted.
    """

    uri: str
    content: bytes | None

    def make(self) -> None:
        """Makes the change."""
        if self.content is None:
            storage.delete_tree(self.uri)
        else:
            storage.write_bytes(self.uri, self.content)


def days_under_way(pipeline: Pipeline) -> list[date]:
    """Days with a run that has begun and not ended: it may know nothing of the list yet."""
    return [day for day in attempts.days(pipeline) if run_leases.open_leases(pipeline, day)]


def changes(pipeline: Pipeline, users: Users) -> Iterator[Change]:
    """What has to change for the working files to hold none of the users, one by one."""
    abandoned = _unfinished_attempts(pipeline)
    yield from (Change(uri, None) for uri in abandoned)
    user_files = UserFiles(pipeline)
    for day in attempts.days(pipeline):
        for file in storage.list_files(attempts.day_uri(pipeline, day)):
            if not any(file.uri.startswith(f"{uri}/") for uri in abandoned):
                content = user_files.without(file, users)
                if content is not None:
                    yield Change(file.uri, content)
    yield from (Change(uri, None) for uri in _partials(pipeline, users))


def delete_scratch(pipeline: Pipeline) -> None:
    """Deletes what writers that were killed have left half written."""
    storage.delete_scratch(attempts.place(pipeline), before=time.time() - _ABANDONED)


def _unfinished_attempts(pipeline: Pipeline) -> list[str]:
    """Folders that killed stages have left; what is in them may be half a file."""
    found = []
    before = time.time() - _ABANDONED
    for day in attempts.days(pipeline):
        home = attempts.day_uri(pipeline, day)
        for stage in storage.list_names(home):
            if stage == lease_records.LEASES:
                continue
            for name in storage.list_names(storage.join(home, stage)):
                uri = storage.join(home, stage, name)
                if storage.exists(storage.join(uri, attempts.DONE)):
                    continue
                written = storage.last_written(uri)
                if written is not None and written < before:
                    found.append(uri)
    return found


def _partials(pipeline: Pipeline, users: Users) -> list[str]:
    """Folders of days whose partials hold a user, or do not say whom they are about.

    A day's go together: sums have no users, and are of the same events as what has.
    """
    folder = partials.place(pipeline)
    known: dict[str, list[bool | None]] = defaultdict(list)
    for file in storage.list_files(folder):
        home = file.uri.rpartition("/")[0]
        known[home].append(_holds(file.uri, users))
    return [home for home, found in sorted(known.items()) if True in found or set(found) == {None}]


def _holds(uri: str, users: Users) -> bool | None:
    """Whether a partial holds one of the users; None if it has no column to tell by."""
    content = partials.read(uri)
    if content is None:
        return True  # damaged: nobody can tell, and nobody will take it up
    if uri.rpartition("/")[2].startswith(f"{event_packs.KIND}-"):
        return event_partials.holds(content, users)
    try:
        table = pa.ipc.open_stream(content).read_all()
    except pa.ArrowInvalid:
        return None
    if "_user" not in table.column_names:
        return None
    return bool(pc.any(pc.is_in(table["_user"], value_set=pa.array(sorted(users)))).as_py())
