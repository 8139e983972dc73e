"""`twinspire status` of days that were run: done as long as they would come out the same."""

from datetime import date

import pytest

from tests.published import described
from tests.system.days import FIRST, SECOND, THIRD, registry_of, twinspire


def states(file):
    outcome = twinspire("status", str(file), "--json", "--to", THIRD)
    return {of_day["day"]: of_day for of_day in outcome["days"]}


@pytest.fixture
def edited(two_days):
    """Writes another pipeline file over the same working files."""
    file = two_days[0] / "edited.toml"

    def write(was, now):
        text = (two_days[0] / "shop.toml").read_text()
        assert was in text
        file.write_text(text.replace(was, now))
        return file

    yield write
    file.unlink(missing_ok=True)


def test_days_stay_done_while_nothing_changes(two_days):
    file = two_days[0] / "shop.toml"
    days = states(file)
    assert [days[day]["state"] for day in (FIRST, SECOND, THIRD)] == [
        "published",
        "published",
        "missing",
    ]
    assert [days[day]["live"] for day in (FIRST, SECOND)] == [False, True]
    assert days[FIRST]["work_bytes"] > days[FIRST]["version_bytes"] > 10_000
    assert days[THIRD]["command"] == f"twinspire run {file} --date {THIRD}"


@pytest.mark.parametrize(
    ("was", "now", "stage"),
    [
        ("epochs = 5", "epochs = 4", "train"),
        ("[corpus]", "[vocabulary]\nmin_events = 3\n[corpus]", "features"),
        ("[serving]", "[index]\nrecall_target = 0.97\n[serving]", "index"),
        ("max_drop = 0.8", "max_drop = 0.7", "publish"),
    ],
)
def test_changed_keys_of_the_pipeline_file_are_named(edited, was, now, stage):
    file = edited(was, now)
    days = states(file)
    for day in (FIRST, SECOND):
        assert days[day]["state"] == "stale"
        assert days[day]["reason"] == f"Keys of the pipeline file that {stage} reads have changed."
        assert days[day]["command"] == f"twinspire run {file} --date {day}"


def test_changed_logs_make_the_days_that_read_them_stale(two_days):
    file = two_days[0] / "shop.toml"
    [part] = (two_days[0] / "events" / f"dt={SECOND}").iterdir()
    part.rename(part.with_name("renamed.parquet"))
    try:
        days = states(file)
    finally:
        part.with_name("renamed.parquet").rename(part)
    assert days[FIRST]["state"] == "published"
    assert (days[SECOND]["state"], days[SECOND]["reason"]) == (
        "stale",
        "Logs or snapshots that it reads have changed.",
    )


def test_a_day_with_another_parent_is_stale(shop, tmp_path):
    registry = registry_of(shop)
    first, second = registry.state().accepted
    (tmp_path / "file").mkdir()
    (tmp_path / "file/file").write_bytes(b"another")
    sources = registry.manifest(first).sources
    other = described(tmp_path / "file", "shop", date.fromisoformat(FIRST), sources=sources)
    registry.publish(str(tmp_path / "file"), other, accepted=True, reason="filled in")
    days = states(shop)[SECOND]
    assert (days["state"], days["version"]) == ("stale", second)
    assert days["reason"] == f"Its parent was {first}; now it would be {other.version}."
