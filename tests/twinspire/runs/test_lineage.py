"""Which days did not learn from which, over a registry of versions that hold nothing."""

from datetime import UTC, date, datetime

from index_builder.registry.version_log import Entry, State
from twinspire.runs.day_run import DayRun, find_gaps, stretches
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


def test_days_without_logs_are_no_gap_and_part_it():
    state = state_of("2024-02-20-a", "2024-02-24-b")
    logs = {day(n) for n in (21, 23, 25, 26)}
    found = find_gaps(state, day(20), day(28), has_logs=logs.__contains__)
    assert found == [Gap(day(21), day(21)), Gap(day(23), day(23)), Gap(day(25), day(26))]


def test_stretches_go_over_the_end_of_a_month():
    days = [day(28), day(29), date(2024, 3, 1), date(2024, 3, 3)]
    assert stretches(days) == [
        Gap(day(28), date(2024, 3, 1)),
        Gap(date(2024, 3, 3), date(2024, 3, 3)),
    ]
