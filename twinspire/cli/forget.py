"""`twinspire forget`: forgets users who asked for it. It deletes files, removes the users' rows from others,
and lists the versions that still contain the users afterwards.

Working files that a stage can make again from logs are deleted as a whole. So no search for the
users is needed, and none of them is missed. Training states cannot be made again, so the users'
rows are taken out of them. Weights are kept, because they contain no ids.
docs/decisions/0073-forgetting.md
"""

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from twinspire.cli.change_versions import registry_of
from twinspire.cli.shared import AsJson, PipelineFile, open_pipeline, print_json, say
from twinspire.runs import run_leases
from twinspire.runs.stages import EMBED, FEATURES, MEASURE, REFRESH, STAGES, TRAIN
from twinspire.tuning import tried_settings
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import (
    attempts,
    day_metrics,
)
from twinspire_core.errors import TryAgain, UsageError
from twinspire_core.storage import FileInfo
from twinspire_core.terminal import doing

Users = frozenset[str]
# The output of these stages contains users, and can be made again from logs
_MADE_AGAIN = (FEATURES.name, EMBED.name, REFRESH.name)
_MENDED = (TRAIN.name, MEASURE.name)
_SHOWN = 10  # places of a list that are printed
# An unfinished attempt without a write for this many seconds is abandoned
_ABANDONED = 3600


def forget(
    pipeline: PipelineFile,
    user: Annotated[
        list[str] | None,
        typer.Option(
            "--user", metavar="ID", help="A user's id, as the logs have it. May be repeated."
        ),
    ] = None,
    users_from: Annotated[
        str | None,
        typer.Option(
            "--users-from",
            metavar="FILE",
            help=(
                "A file with one id per line. - reads standard input, so that the ids do not get"
                " into the history of the shell."
            ),
        ),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Forget the users. Without --yes, only list what would change."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Forget users: delete their data, and keep them out of later runs. Without --yes, only list the data.

    Working files that hold users (features, vectors, caches of logs) are deleted as a whole, and
    later runs make them again from the logs. The users' rows are taken out of training states. The
    users are put on a list, and every later run drops their records. So the next version contains
    nothing about them. The command lists the stored versions that still contain a user. It never
    changes them, and neither reads nor changes logs.

    Exit code: 75 if a day is running; type the same command again when it has ended.
    """
    p = open_pipeline(pipeline)
    result = _forget(p, _ids(user or [], users_from), yes=yes)
    if as_json:
        print_json(result)
    else:
        _tell(result)


def _ids(given: list[str], place: str | None) -> frozenset[str]:
    lines: list[str] = []
    if place is not None:
        try:
            text = sys.stdin.read() if place == "-" else Path(place).read_text()
        except (OSError, UnicodeDecodeError) as e:
            raise UsageError(
                f"--users-from must be a text file with one id per line; {place} cannot be read: {e}."
            ) from e
        lines = text.splitlines()
    users = frozenset(filter(None, (*given, *lines)))
    if not users:
        raise UsageError("Name the users to forget: --user ID, or --users-from FILE.")
    return users


def _forget(pipeline: Pipeline, users: frozenset[str], *, yes: bool) -> dict[str, Any]:
    # Imported here, because most commands need no Polars
    from twinspire_core.contracts import forgotten_users

    if yes:
        # First, so that every run that is planned from now on drops these users
        forgotten_users.add(pipeline, users)
        if days := days_under_way(pipeline):
            raise TryAgain(
                "Users can be forgotten only while no day is under way; found"
                f" {', '.join(map(str, days))}. The users are on the list now. Type the same command"
                " again when these days have ended (`twinspire status PIPELINE`). If a stage was killed,"
                " wait for an hour."
            )
    with doing("looking at working files") as update:
        sizes = deletable(pipeline)
        if yes:
            delete(pipeline, sizes)
        changed = []
        held = frozenset[str]()
        for uri, content in mended(pipeline, users):
            changed.append(uri)
            if yes:
                storage.write_bytes(uri, content)
        update("looking at versions")
        live = registry_of(pipeline).live()
        versions = []
        for version, of_version in held_by_versions(pipeline, users):
            versions.append({"version": version, "live": version == live})
            held |= of_version
    return {
        "pipeline": pipeline.name,
        "forgotten": yes,
        "users": len(users),
        # A training state does not say whose rows it held
        "unknown": 0 if changed else len(users - held),
        "changed": changed,
        "deleted": list(sizes),
        "deleted_bytes": sum(sizes.values()),
        "versions": versions,
    }


def _tell(result: dict[str, Any]) -> None:
    """Prints what was done at each place and what is left to do, without users' ids."""
    done = result["forgotten"]
    if unknown := result["unknown"]:
        which = "the user" if result["users"] == 1 else f"{unknown:,} of {result['users']:,} users"
        say(
            f"No training state and no stored version holds {which}. Check that the id is written as in"
            " the logs."
        )
    size = f"{result['deleted_bytes'] / 1e6:,.1f} MB"
    _list(f"{'Deleted' if done else 'Would be deleted'}, {size}", result["deleted"])
    _list("Users taken out of" if done else "Users would be taken out of", result["changed"])
    if result["deleted"]:
        say(
            "Later runs make what they need of this again. The next run reads the logs of all days in its"
            " windows, as a first run does, and has no earlier statistics to compare with."
        )
    versions = [f"{one['version']}{' (live)' * one['live']}" for one in result["versions"]]
    _list("Stored versions that still hold users, which never change", versions)
    if versions:
        say(
            "The next version will not hold them. When it is published, delete older ones: twinspire"
            " prune PIPELINE --keep 1 --keep-days 0 --yes. This keeps versions that others are measured"
            " against. To list those that still hold users, type twinspire forget without --yes."
        )
    if not done:
        say("Nothing was changed. To forget them, add --yes.")


def _list(title: str, places: list[str]) -> None:
    if not places:
        return
    say(f"{title}: {len(places):,}")
    for place in places[:_SHOWN]:
        say(f"  {place}")
    if len(places) > _SHOWN:
        say(f"  … and {len(places) - _SHOWN:,} more; --json lists all")


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
    from twinspire_core.contracts import model_bundle, trained_day  # they load Arrow

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


def held_by_versions(pipeline: Pipeline, users: Users) -> Iterator[tuple[str, Users]]:
    """Stored versions that hold some of the users, oldest first, with these users."""
    registry = registry_of(pipeline)
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
    import pyarrow as pa
    import pyarrow.compute as pc

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
    from twinspire_core.storage import parquet_files  # it loads Arrow

    with parquet_files.open_parquet(file.uri) as rows:
        ids = rows.read(["_user"])  # without columns if there is none of this name
    return Users().union(*(users.intersection(column.to_pylist()) for column in ids.columns))
