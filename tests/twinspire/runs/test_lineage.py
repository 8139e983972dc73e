from datetime import date

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
