"""Which days did not learn from which, over a registry of versions that hold nothing."""

from datetime import UTC, date, datetime

from index_builder.registry.version_log import Entry, State
from twinspire.runs.day_run import DayRun
from twinspire_core.contracts.attempts import Gap


def day(n):
    return date(2024, 2, n)


def test_gaps_are_days_with_logs_in_unbroken_stretches(shop):
    pipeline, publish = shop
    one = publish(21)
    publish(23, one, accepted=False)
    publish(25, one)
    found = DayRun(pipeline, date(2024, 3, 1)).gaps_since(day(21))
    # And no day after February
    assert found == [Gap(day(22), day(24)), Gap(day(26), day(26)), Gap(day(28), day(29))]
    assert (
        found[0].describe("a-shop")["command"]
        == "twinspire run a-shop --from 2024-02-22 --to 2024-02-24"
    )
    run = DayRun(pipeline, day(29))
    assert run.gaps_since(None) == run.gaps_since(day(28)) == []


def state_of(*versions):
    """Versions that were published in this order."""
    return State.of(
        Entry(
            number=number,
            id=str(number),
            at=datetime(2024, 3, 1, tzinfo=UTC),
            action="publish",
            version=version,
            reason="",
            live=version,
        )
        for number, version in enumerate(versions, 1)
    )
