"""Forgetting users who asked for it."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from twinspire.cli.options import AsJson, PipelineFile, open_pipeline, print_json, say
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData, TryAgain, UsageError
from twinspire_core.terminal import doing

_SHOWN = 10


def forget(
    pipeline: PipelineFile,
    user: Annotated[
        list[str] | None,
        typer.Option("--user", metavar="ID", help="A user's id, as in the logs. May be repeated."),
    ] = None,
    users_from: Annotated[
        str | None,
        typer.Option(
            "--users-from",
            metavar="FILE",
            help="A file with an id on each line; - reads them from standard input, so that they are"
            " in no shell's history.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Forget. Without it, only say what would change.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Forget users: what is kept of them now, and what later runs would keep; a dry run unless
    --yes.

    They go from the working files of all days, what was kept of logs (partials) and statistics, and
    onto a list by which later runs drop their records, also when a day is made again. The next
    version knows nothing of them. Versions that are stored already never change, and the logs are
    their owner's: it is said which of them still hold a user. What is done stays done.

    Exit code 75 while a day is under way: run the same command again when it has ended.
    """
    p = open_pipeline(pipeline)
    users = _ids(user or [], users_from)
    result = _forget(p, users, yes=yes)
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
                f"--users-from names a text file with an id on each line; {place} cannot be read: {e}."
            ) from e
        lines = text.splitlines()
    users = frozenset(one for one in (*given, *lines) if one)
    if not users:
        raise UsageError("Say who is to be forgotten: --user ID, or --users-from FILE.")
    return users


def _forget(pipeline: Pipeline, users: frozenset[str], *, yes: bool) -> dict[str, Any]:
    from twinspire.forgetting import still_held, working_files
    from twinspire_core.contracts import forgotten_users

    known = forgotten_users.find(pipeline)
    if yes:
        # First of all: whoever plans a run from here on drops them
        forgotten_users.add(pipeline, users)
        if days := working_files.days_under_way(pipeline):
            raise TryAgain(
                "A run that began before knows nothing of who is to be forgotten, and there are runs"
                f" under way: {', '.join(map(str, days))}. They are on the list from now on; run"
                " the same command again when these days have ended (`twinspire status PIPELINE`)."
            )
    changed: list[str] = []
    deleted: list[str] = []
    with doing("looking at working files") as update:
        for change in working_files.changes(pipeline, users):
            update(f"looking at working files: {change.uri}")
            (changed if change.content is not None else deleted).append(change.uri)
            if yes:
                change.make()
        if yes:
            working_files.delete_scratch(pipeline)
        update("looking at versions")
        versions = [one._asdict() for one in still_held.versions(pipeline, users)]
        logs, unreadable = [], []
        files = still_held.logs(pipeline)
        for number, file in enumerate(files, 1):
            update(f"looking at logs: {number:,} of {len(files):,}")
            try:
                if still_held.holds(pipeline, file, users):
                    logs.append(file.uri)
            except BadData:
                unreadable.append(file.uri)
    return {
        "pipeline": pipeline.name,
        "forgotten": yes,
        "users": len(users),
        "on_the_list_before": sum(user in known for user in users),
        "changed": changed,
        "deleted": deleted,
        "versions": versions,
        "logs": logs,
        "unreadable_logs": unreadable,
    }


def _tell(result: dict[str, Any]) -> None:
    """For people: what became of each place, and what is left to do. Ids are not said again."""
    done = result["forgotten"]
    _list("Rows and names taken out of" if done else "Would be taken out of", result["changed"])
    _list("Deleted" if done else "Would be deleted", result["deleted"])
    if not result["changed"] and not result["deleted"]:
        say("No working file holds them.")
    _list("Still held by the logs, which are their owner's to change", result["logs"])
    _list("Logs that cannot be read, so that nobody can tell", result["unreadable_logs"])
    versions = [f"{one['version']}{' (live)' * one['live']}" for one in result["versions"]]
    _list("Still held by stored versions, which never change", versions)
    if versions:
        say(
            "The next version is without them. Then delete older ones: twinspire prune PIPELINE"
            " --keep 1 --keep-days 0 --yes"
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
