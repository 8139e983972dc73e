"""What forgetting leaves alone and still holds a user: published versions, which never change, and
the logs, which are their owner's.
"""

from collections.abc import Iterator
from typing import NamedTuple

from beam_jobs.ingest import columns, day_files, record_blocks
from beam_jobs.ingest.column_values import WrongType, read_as
from beam_jobs.ingest.columns import Column
from beam_jobs.ingest.day_files import SourceFile, Table
from beam_jobs.ingest.record_blocks import VALUE_LENGTH, Block, Rejected
from index_builder.registry.registry import Registry
from twinspire.forgetting.file_contents import UserFiles, Users
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline


class HoldingVersion(NamedTuple):
    """A stored version that holds a user.

    Attributes:
      version: its id.
      live: whether it is live.
      files: which of its files do.
    """

    version: str
    live: bool
    files: list[str]


def versions(pipeline: Pipeline, users: Users) -> Iterator[HoldingVersion]:
    """Stored versions that hold one of the users, oldest first."""
    registry = Registry(pipeline.registry.root, pipeline.name)
    user_files = UserFiles(pipeline)
    live = registry.live()
    for version in registry.folders():
        files = storage.list_files(registry.folder(version))
        held = [file.path for file in files if user_files.without(file, users) is not None]
        if held:
            yield HoldingVersion(version, version == live, held)


def logs(pipeline: Pipeline) -> list[SourceFile]:
    """All files of events and of users' snapshots that a run may read, by table and day."""
    tables: tuple[Table, ...] = ("events", "users")
    return [
        file
        for table in tables
        for day in day_files.folder_days(pipeline, table)
        for file in day_files.files(pipeline, table, day)
    ]


def holds(pipeline: Pipeline, file: SourceFile, users: Users) -> bool:
    """Whether a raw file has a record of one of the users, or a line that may be one of theirs.

    Raises:
      BadData: it cannot be read, or has no column of users.
    """
    of_table = {"events": columns.events, "users": columns.users}[file.table]
    wanted = [column for column in of_table(pipeline) if column.name == "_user"]
    given = pipeline.source.format
    for part in record_blocks.parts(given, file):
        for block in record_blocks.read(given, file, part, wanted, pipeline.beam.batch_rows):
            if _is_of(block, wanted[0], users):
                return True
    return False


def _is_of(block: Block | Rejected, user: Column, users: Users) -> bool:
    if isinstance(block, Rejected):  # a whole line, perhaps cut short
        return len(block.value) >= VALUE_LENGTH or any(one in block.value for one in users)
    raw = columns.RAW + user.source
    if raw not in block.rows.columns:  # no line of these has the key
        return False
    try:
        reading = read_as(user, block.rows.schema[raw], text=block.text)
    except WrongType:  # no run can read it either
        return False
    return bool(block.rows.select(reading.values)[user.name].is_in(list(users)).any())
