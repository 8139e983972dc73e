import json
from datetime import date

from twinspire_core.contracts.features_report import (
    FeaturesReport,
    MisplacedEvents,
    ReadDays,
    SnapshotRows,
    Snapshots,
)

DAY = date(2024, 5, 2)


def test_days_are_text_in_the_file_and_days_again_when_read(tmp_path):
    report = FeaturesReport(
        rows=5,
        late=MisplacedEvents(left_out=1),
        snapshots=Snapshots(items={DAY: SnapshotRows(rows=2)}),
        days=ReadDays(first=date(2024, 4, 1), read=30, missing=[date(2024, 4, 9)]),
        examples={DAY: 3},
    )
    report.write(str(tmp_path))
    actual = json.loads((tmp_path / FeaturesReport.FILE).read_text())
    assert actual["examples"] == {"2024-05-02": 3}
    assert actual["days"] == {"first": "2024-04-01", "read": 30, "missing": ["2024-04-09"]}
    assert actual["snapshots"]["items"] == {
        "2024-05-02": {"rows": 2, "rejected": {}, "duplicates": 0}
    }
    assert FeaturesReport.find(str(tmp_path)) == report


def test_a_report_of_another_release_is_read(tmp_path):
    (tmp_path / FeaturesReport.FILE).write_text(
        '{"rows": 3, "of_tomorrow": 1, "late": {"left_out": 2}}'
    )
    report = FeaturesReport.find(str(tmp_path))
    assert report.rows == 3 and report.late.left_out == 2 and report.statistics is None
    assert "excess" not in report.model_fields_set
