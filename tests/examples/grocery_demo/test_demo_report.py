"""What the demo shows in the end fits a terminal of 80 columns."""

from datetime import UTC, date, datetime

from rich.console import Console

from examples.grocery_demo import demo_report
from index_builder.registry.versions import Status
from tests.twinspire_core.display.test_measured_lists import metrics


class Registry:
    """Two days, the first without a version before it."""

    def __init__(self, home):
        self.home = home
        for day, found in enumerate((metrics(progressive=None, mix={}), metrics()), 1):
            (home / f"2017-10-0{day}-abcdef12").mkdir()
            found.write(home / f"2017-10-0{day}-abcdef12")

    def folder(self, version):
        return self.home / version

    def statuses(self):
        return [
            Status(
                version=f"2017-10-0{day}-abcdef12",
                date=date(2017, 10, day),
                status=status,
                at=datetime(2017, 10, day, tzinfo=UTC),
                reason=reason,
                pinned=False,
                stored=True,
                corpus_date=date(2017, 10, day),
            )
            for day, status, reason in (
                (2, "live", "accepted: recall@50 is 0.25"),
                (1, "refused", "recall@50 is [0.1], below 0.2"),
            )
        ]


def test_versions_and_their_quality(tmp_path):
    registry = Registry(tmp_path)
    console = Console(width=80)
    with console.capture() as shown:
        found = demo_report.versions(registry, console)
        demo_report.quality(registry, found, console)
    lines = shown.get().splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in shown.get()
    rows = [line.split() for line in lines]
    assert ["2017-10-01-abcdef12", "refused", "recall@50", "is", "[0.1],", "below", "0.2"] in rows
    assert ["2017-10-02-abcdef12", "live", "accepted"] in rows
    figures = ["0.125", "0.250", "–", "0.500", "–", "–"]
    quality = [row for row in rows if row[-6:] == figures]
    assert [" ".join(row[:-6]) for row in quality] == [
        "2017-10-01 taken together",
        "ALS",
        "this version",
        "2017-10-02 the version before",
        "its mix of sources",
        "taken together",
        "ALS",
        "this version",
    ]
