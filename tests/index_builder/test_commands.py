import json
import os
import time
from datetime import date, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from index_builder import publish_stage
from twinspire.cli.main import app
from twinspire_core.contracts import attempts

FIRST, SECOND, THIRD = (date(2024, 5, day) for day in (1, 2, 3))


@pytest.fixture
def command(tiny_file):
    """Runs a command on the pipeline; what it printed, JSON where it did."""

    def run(name, *arguments):
        done = CliRunner().invoke(
            app, [name, tiny_file, *map(str, arguments)], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        last = done.stdout.splitlines()[-1]
        return json.loads(last) if last[0] in "[{" else done.stdout

    return run


@pytest.fixture
def three(context, pipeline, registry, parent):
    """Two days of which the second is live, and a third that the gate refused."""
    return [
        publish_stage.run(context(day, recall=recall, parent=parent(pipeline, day)))["version"]
        for day, recall in ((FIRST, 0.2), (SECOND, 0.21), (THIRD, 0.1))
    ]


def test_versions_are_named_by_beginnings_and_days(command, three, registry):
    one, two, refused = three
    assert command("show", str(FIRST), "--json")["version"] == one
    assert command("show", refused[:-3], "--json")["version"] == refused
    assert command("rollback", "--to", str(FIRST))["live"] == one == registry.live()
    assert command("promote", two[:14], "--despite-gate", "it was not that")["live"] == two
    assert command("pin", str(SECOND)) == {"version": two, "pinned": True}
    assert command("pin", two[:12], "--remove") == {"version": two, "pinned": False}


def test_prune_lists_what_it_would_delete_and_deletes_it_on_request(
    command, three, registry, pipeline
):
    """The second is live and the third is pinned; an old attempt is spare, but not what the two
    were made from.
    """
    one, two, refused = three
    command("pin", refused)
    versions, working = (
        Path(registry.root, "tiny/versions"),
        Path(pipeline.pipeline.work_root, "tiny"),
    )
    unfinished, spare = "2024-05-04-00000000", working / "dt=2024-04-01/index/0001-aaaaaaaa"
    needed = working / registry.manifest(two).sources["train"]
    for folder in (versions / unfinished, versions / "2024-05-05-00000000", spare, needed):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "half").touch()
    # Nobody is at work there any more
    for place in (versions / unfinished / "half", versions / unfinished):
        os.utime(place, (time.time() - 90_000,) * 2)

    def names() -> set[str]:
        return set(os.listdir(versions))

    told, before = command("prune", "--keep", 0, "--keep-days", 2), names()
    assert (told["deleted"], told["versions"], told["unpublished"]) == (False, [one], [unfinished])
    assert str(spare) in told["working_files"] and str(needed) not in told["working_files"]
    assert spare.exists() and registry.log()[-1].action == "pin"
    assert command("prune", "--keep", 3, "--keep-days", 2)["versions"] == []
    assert command("prune", "--keep", 0, "--keep-days", 100_000)["versions"] == []
    assert command("prune", "--keep", 0, "--keep-days", 2, "--yes") == told | {"deleted": True}
    assert names() == before - {one, unfinished} and registry.live() == two
    assert registry.verify(refused)
    assert needed.exists() and not spare.exists()
    again = command("prune", "--keep", 0, "--keep-days", 2, "--yes")
    nothing = {name: [] for name in ("versions", "unpublished", "working_files", "partials")}
    assert again == {"deleted": True, **nothing}


def test_prune_takes_partials_of_days_that_nothing_looks_back_to(command, pipeline, tmp_path):
    """The longest window of the newest day with logs decides, not the calendar."""
    newest = date(2024, 4, 16)
    first = newest - timedelta(days=59)  # the first of 30 days of training looks back 30
    days = [first - timedelta(days=1), first, newest]
    folders = [Path(attempts.partials_folder(pipeline), f"dt={day}") for day in days]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "events-1-0-of-1.arrow").touch()
    assert command("prune", "--yes")["partials"] == [], "without logs nothing is old"
    logs = tmp_path / f"logs/dt={newest}"
    logs.mkdir(parents=True)
    (logs / "part.csv").touch()
    assert command("prune")["partials"] == [str(folders[0])] and folders[0].exists()
    assert command("prune", "--yes")["partials"] == [str(folders[0])]
    assert [folder.exists() for folder in folders] == [False, True, True]
