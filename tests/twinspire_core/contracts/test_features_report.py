"""`report.json`: the same JSON whatever is known, and what releases before wrote is read."""

import json
from datetime import date

from twinspire_core.contracts.features_report import (
    FILE,
    FeaturesReport,
    MisplacedEvents,
    ReadDays,
    SnapshotRows,
    Snapshots,
)

DAY = date(2024, 5, 2)
KEYS = """
    rows rejected duplicates users items known_users corpus_end unlisted_items unlisted_events
    snapshots days late excess positives held_out_positives queries held_out_queries corpus_start
    examples replayed rejected_of_other_days duplicates_of_other_days
""".split()  # noqa: SIM905


def report():
    return FeaturesReport(
        rows=5,
        late=MisplacedEvents(left_out=1),
        snapshots=Snapshots(items={DAY: SnapshotRows(rows=2)}),
        days=ReadDays(first=date(2024, 4, 1), read=30, missing=[date(2024, 4, 9)]),
        held_out_queries={DAY: 3},
    )


def test_the_file_holds_the_fields_in_order_days_as_text(tmp_path):
    report().write(str(tmp_path))
    text = (tmp_path / FILE).read_text()
    found = json.loads(text)
    assert text == json.dumps(found, indent=1)
    assert list(found) == KEYS
    assert list(found["late"])[-1] == "digest" and found["held_out_queries"] == {"2024-05-02": 3}
    assert found["days"] == {"first": "2024-04-01", "read": 30, "missing": ["2024-04-09"]}
    assert found["snapshots"] == {
        "items": {"2024-05-02": {"rows": 2, "rejected": {}, "duplicates": 0}},
        "users": {},
    }
    assert FeaturesReport.find(str(tmp_path)) == report()


def test_a_report_of_another_release_is_read(tmp_path):
    (tmp_path / FILE).write_text('{"rows": 3, "of_tomorrow": 1, "late": {"left_out": 2}}')
    found = FeaturesReport.find(str(tmp_path))
    assert found.rows == 3 and found.late.left_out == 2 and found.statistics is None
    assert "excess" not in found.model_fields_set
