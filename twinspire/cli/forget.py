"""`twinspire forget`: forgets users who asked for it."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from twinspire.cli.change_versions import registry_of
from twinspire.cli.shared import (
    AsJson,
    PipelineFile,
    open_pipeline,
    print_json,
    say,
)
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import TryAgain, UsageError
from twinspire_core.terminal import doing

_SHOWN = 10


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
                f"--users-from must be a text file with one id per line; {place} cannot be read: {e}."
            ) from e
        lines = text.splitlines()
    users = frozenset(filter(None, (*given, *lines)))
    if not users:
        raise UsageError("Name the users to forget: --user ID, or --users-from FILE.")
    return users


def _forget(pipeline: Pipeline, users: frozenset[str], *, yes: bool) -> dict[str, Any]:
    from twinspire import forgetting
    from twinspire_core.contracts import forgotten_users

    known = forgotten_users.find(pipeline)
    if yes:
        # First, so that every run that is planned from now on drops these users
        forgotten_users.add(pipeline, users)
        if days := forgetting.days_under_way(pipeline):
            raise TryAgain(
                "Users can be forgotten only while no day is under way; found"
                f" {', '.join(map(str, days))}. The users are on the list now. Type the same command"
                " again when these days have ended (`twinspire status PIPELINE`). If a stage was killed,"
                " wait for an hour."
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
    return {
        "pipeline": pipeline.name,
        "forgotten": yes,
        "users": len(users),
        "on_the_list_before": sum(user in known for user in users),
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
