"""What the demo shows in the end fits a terminal of 80 columns."""

from datetime import UTC, date, datetime

from rich.console import Console

from examples.grocery_demo import demo_report
from index_builder.registry.versions import Status
from tests.twinspire_core.display.test_measured_lists import metrics
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.paired_differences import PairedDifference, PairedDifferences
from twinspire_core.contracts.ranker_measures import RankerMeasures


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
    figures = ["0.125", "0.250", "–", "0.500", "–"]
    quality = [row for row in rows if row[-5:] == figures]
    assert [" ".join(row[:-5]) for row in quality] == [
        "2017-10-01 bought together",
        "ALS",
        "this version",
        "2017-10-02 served: mix",
        "two-tower",
        "bought together",
        "ALS",
        "this version",
    ]


def _beside(mean, base, users):
    one = PairedDifference(mean=mean, base=base, deviation=0.1, differ=5)
    return PairedDifferences(users=users, by_measure={"recall@50": one})


def test_what_the_ranker_adds_is_a_mean_over_households():
    days = [
        DayMetrics(
            ranker=RankerMeasures(
                beside_mix=_beside(0.03, 0.30, users),
                beside_sources={
                    "past": _beside(0.08, 0.25, users),
                    "personal": _beside(0.33 - personal, personal, users),
                },
            )
        )
        for users, personal in ((300, 0.30), (100, 0.34))
    ]
    text = demo_report.what_ranker_adds(days, "recall@50")
    assert "Over 400 households of 2 days" in text
    assert "recall@50 of 0.330, the mix 0.300" in text
    assert "(purchase history, decayed) 0.310" in text
    assert demo_report.what_ranker_adds([DayMetrics()], "recall@50") == ""
