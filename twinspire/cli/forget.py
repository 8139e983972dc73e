"""Forgetting users who asked for it."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from twinspire.cli.change_versions import registry_of
from twinspire.cli.options import AsJson, PipelineFile, open_pipeline
from twinspire.cli.output import print_json, say
from twinspire_core import storage
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
    """Forget users: delete what is kept of them, and keep them out of later runs; a dry run unless
    --yes.

    Working files that hold users (features, embeddings, what was kept of logs) are deleted, those of
    other users too: later runs make them again from the logs. Training states stay, without the users.
    The users go onto a list, and every later run drops their records, also when a day is made again.
    The next version that is trained knows nothing of them. Stored versions never change, and the
    logs are not ours to change: the command names those that still hold a user.

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
    from twinspire import forgetting
    from twinspire_core.contracts import forgotten_users

    known = forgotten_users.find(pipeline)
    if yes:
        # First, so that every run that is planned from now on drops them
        forgotten_users.add(pipeline, users)
        if days := forgetting.days_under_way(pipeline):
            raise TryAgain(
                "Users are forgotten between runs, and days are under way:"
                f" {', '.join(map(str, days))}. The users are on the list from now on; run the same"
                " command again when these days have ended (`twinspire status PIPELINE`), or in an"
                " hour where a stage was killed."
            )
    with doing("looking at working files") as update:
        sizes = forgetting.deletable(pipeline)
        if yes:
            forgetting.delete(pipeline, sizes)
        changed = []
        held = frozenset[str]()
        for uri, content in forgetting.mended(pipeline, users):
            changed.append(uri)
            if yes:
                storage.write_bytes(uri, content)
        update("looking at versions")
        live = registry_of(pipeline).live()
        versions = []
        for version, of_version in forgetting.versions(pipeline, users):
            versions.append({"version": version, "live": version == live})
            held |= of_version
        logs, unreadable = [], []
        files = forgetting.logs(pipeline)
        for number, file in enumerate(files, 1):
            update(f"looking at logs: {number:,} of {len(files):,}")
            try:
                if of_log := forgetting.held_by_log(pipeline, file, users):
                    logs.append(file.uri)
                    held |= of_log
            except BadData:
                unreadable.append(file.uri)
    return {
        "pipeline": pipeline.name,
        "forgotten": yes,
        "users": len(users),
        "on_the_list_before": sum(user in known for user in users),
        # A training state does not say whose rows were taken out, nor an unreadable log whom it holds
        "unknown": 0 if changed or unreadable else len(users - held),
        "changed": changed,
        "deleted": list(sizes),
        "deleted_bytes": sum(sizes.values()),
        "versions": versions,
        "logs": logs,
        "unreadable_logs": unreadable,
    }


def _tell(result: dict[str, Any]) -> None:
    """Prints what became of each place and what is left to do, without users' ids."""
    done = result["forgotten"]
    if unknown := result["unknown"]:
        which = "the user" if result["users"] == 1 else f"{unknown:,} of {result['users']:,} users"
        say(
            f"No log and no stored version holds {which}. Check the id: the logs say how it is written."
        )
    size = f"{result['deleted_bytes'] / 1e6:,.1f} MB"
    _list(f"{'Deleted' if done else 'Would be deleted'}, {size}", result["deleted"])
    _list("Users taken out of" if done else "Users would be taken out of", result["changed"])
    if result["deleted"]:
        say(
            "Later runs make what they need of this again: the next one reads the logs of all days of"
            " its windows, as a first run does, and has no earlier day's statistics to compare with."
            " A day that is run again starts from the logs."
        )
    _list("Still held by logs, which only their owner changes", result["logs"])
    _list("Logs that cannot be read, and may hold users", result["unreadable_logs"])
    versions = [f"{one['version']}{' (live)' * one['live']}" for one in result["versions"]]
    _list("Still held by stored versions, which never change", versions)
    if versions:
        say(
            "The next version that is trained is without them. Then delete older ones:"
            " twinspire prune PIPELINE --keep 1 --keep-days 0 --yes. It keeps versions that others"
            " are measured against: twinspire forget, without --yes, lists those that still hold users."
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
