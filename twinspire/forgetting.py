"""Forgetting users: deletes files, removes the users' rows from others, and lists the versions that
still contain the users afterwards.

Working files that a stage can make again from logs are deleted as a whole. So no search for the
users is needed, and none of them is missed. Training states cannot be made again, so the users'
rows are taken out of them. Weights are kept, because they contain no ids.
docs/decisions/0073-forgetting.md
"""

import time
from collections.abc import Iterable, Iterator
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from index_builder.registry.registry import Registry
from twinspire.runs import run_leases
from twinspire.runs.stages import EMBED, FEATURES, MEASURE, REFRESH, STAGES, TRAIN
from twinspire.tuning import tried_settings
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts, day_metrics, model_bundle, trained_day
from twinspire_core.storage import FileInfo, parquet_files

Users = frozenset[str]
# The output of these stages contains users, and can be made again from logs
_MADE_AGAIN = (FEATURES.name, EMBED.name, REFRESH.name)
_MENDED = (TRAIN.name, MEASURE.name)
# An unfinished attempt without a write for this many seconds is abandoned
_ABANDONED = 3600


def days_under_way(pipeline: Pipeline) -> list[date]:
    """Days with an open run or a stage at work. They may have read the list before the users were on it."""
    return [
        day
        for p in (pipeline, *tried_settings.folders(pipeline))
        for day in attempts.days(p)
        if run_leases.open_leases(p, day) or _is_at_work(p, day)
    ]


def _is_at_work(pipeline: Pipeline, day: date) -> bool:
    """Whether a stage may be writing that was typed as a command and therefore has no lease."""
    ended = [run.record().at.timestamp() for run in run_leases.newest(pipeline, day)]
    since = max([time.time() - _ABANDONED, *ended])
    unfinished = [uri for _, uri, done in _attempts(pipeline, day) if not done]
    return any((storage.last_written(uri) or 0) > since for uri in unfinished)


def deletable(pipeline: Pipeline) -> dict[str, int]:
    """Folders that stages make again from logs, or that nothing reads any more, with their sizes."""
    folders = []
    for p in (pipeline, *tried_settings.folders(pipeline)):
        folders.append(attempts.partials_folder(p))
        for day in attempts.days(p):
            for stage, uri, done in _attempts(p, day):
                # Trials of `twinspire tune` are not days of the pipeline, and no day continues from them
                if stage in _MADE_AGAIN or not done or p is not pipeline:
                    folders.append(uri)
                elif stage == TRAIN.name:
                    # Published versions have copies of these. An unpublished day is trained again
                    parts = (model_bundle.QUERY_TOWER, trained_day.FOLDER)
                    folders += [storage.join(uri, part) for part in parts]
    sizes = {uri: sum(file.size for file in storage.list_files(uri)) for uri in folders}
    return {uri: size for uri, size in sizes.items() if size}


def delete(pipeline: Pipeline, folders: Iterable[str]) -> None:
    """Deletes folders, and the scratch files of killed writers."""
    for uri in folders:
        attempts.delete(uri)
    storage.delete_scratch(attempts.place(pipeline), before=time.time() - _ABANDONED)


def mended(pipeline: Pipeline, users: Users) -> Iterator[tuple[str, bytes]]:
    """Training states and example lists that contain the users, each with its content after
    removing them.
    """
    menders = {f"{name}.arrow": _without_keys for name in _columns(pipeline)}
    menders[day_metrics.EXAMPLES] = _without_lists
    for day in attempts.days(pipeline):
        for stage, uri, done in _attempts(pipeline, day):
            for file in storage.list_files(uri) if done and stage in _MENDED else ():
                mend = menders.get(file.path.rpartition("/")[2])
                if mend and (content := mend(file.uri, users)) is not None:
                    yield file.uri, content


def versions(pipeline: Pipeline, users: Users) -> Iterator[tuple[str, Users]]:
    """Stored versions that hold some of the users, oldest first, with these users."""
    registry = Registry(pipeline.registry.root, pipeline.name)
    names = _columns(pipeline)
    for version in registry.folders():
        files = storage.list_files(registry.folder(version))
        if held := Users().union(*(_held(one, names, users) for one in files)):
            yield version, held


def _attempts(pipeline: Pipeline, day: date) -> Iterator[tuple[str, str, bool]]:
    """A day's attempts, stage by stage: the stage, the folder, and whether it was committed."""
    for stage in (*STAGES, REFRESH.name):
        home = storage.join(attempts.day_uri(pipeline, day), stage)
        for name in storage.list_names(home):
            uri = storage.join(home, name)
            yield stage, uri, storage.exists(storage.join(uri, attempts.DONE))


def _columns(pipeline: Pipeline) -> set[str | None]:
    """The features whose values are users' ids."""
    user = pipeline.columns.user
    keys = {"events": user, "users": pipeline.columns.users_key or user}
    return {pipeline.user_id} | {
        name
        for table, key in keys.items()
        for name, column in pipeline.columns_of(table).items()
        if column == key
    }


def _without_lists(uri: str, users: Users) -> bytes | None:
    lists = day_metrics.parse_examples(storage.read_bytes(uri))
    kept = [one for one in lists if one.user not in users]
    return day_metrics.dump_examples(kept) if len(kept) < len(lists) else None


def _without_keys(uri: str, users: Users) -> bytes | None:
    """A table of the training state without the users' rows; None if it has none."""
    table = pa.ipc.open_file(storage.read_bytes(uri)).read_all()
    # Keys of a vocabulary are stored with `=` before them (model/towers/architecture.py).
    theirs = pc.is_in(table["key"], value_set=pa.array([f"={user}" for user in sorted(users)]))
    if not pc.any(theirs).as_py():
        return None
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as file:
        # Not `filter`, which may leave the text of dropped rows in the buffers
        file.write_table(table.take(pc.indices_nonzero(pc.invert(theirs))).combine_chunks())
    return sink.getvalue().to_pybytes()


def _held(file: FileInfo, names: set[str | None], users: Users) -> Users:
    """The users whom a file of a version holds, in rows or in a vocabulary."""
    # The report is not searched, because its users are all in the rows, too
    folder, _, name = file.path.rpartition("/")
    if name in names and folder.endswith("assets"):
        return users.intersection(storage.read_bytes(file.uri).decode().split("\n"))
    if not name.endswith(".parquet"):
        return Users()
    with parquet_files.open_parquet(file.uri) as rows:
        ids = rows.read(["_user"])  # without columns if there is none of this name
    return Users().union(*(users.intersection(column.to_pylist()) for column in ids.columns))
