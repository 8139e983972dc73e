"""`twinspire run` of a range: what it reports of its days, however they end."""

import json
from types import SimpleNamespace

import pytest

from twinspire.cli import run_days
from twinspire.runs.day_run import DayRun
from twinspire_core.config.tables.deployment import RegistryConfig
from twinspire_core.errors import BadData


def test_a_day_that_fails_hides_nothing_of_those_before_it(shop_file, monkeypatch, capsys):
    days = []

    def run_stages(run, **options):
        days.append(str(run.day))
        if len(days) == 2:
            raise BadData("The file is cut off.")
        day = {"day": days[0], "outcome": "published", "seconds": {}}
        return {**day, "version": f"{run.day}-v", "live": True}

    monkeypatch.setattr(run_days, "_run_stages", run_stages)
    with pytest.raises(BadData, match="cut off"):
        run_days.run(str(shop_file), first="2024-03-01", last="2024-03-04")
    assert days == ["2024-03-01", "2024-03-02"]
    text = capsys.readouterr()
    published, failed = json.loads(text.out)["days"]
    assert (published["outcome"], published["version"]) == ("published", "2024-03-01-v")
    assert (failed["day"], failed["outcome"]) == ("2024-03-02", "failed")
    assert failed["reason"] == "The file is cut off."
    assert "2024-03-02 failed. The days after it, up to 2024-03-04, were not run." in text.err


def test_rejected_records_are_counted_by_reason_and_one_is_shown(
    shop_file, tmp_path, monkeypatch, capsys
):
    record = {"row": 7, "file": "part-0.csv", "reason": "no user", "value": "null"}
    (tmp_path / "rejected").mkdir()
    (tmp_path / "rejected/records.jsonl").write_text(json.dumps(record) + "\n")

    def run_stage(run, name, **options):
        result = {"day": "2024-03-01", "stage": name, "status": "done", "seconds": 1.0}
        result |= {"version": "v", "live": True}
        if name == "features":
            snapshot = {"rows": 9, "rejected": {"no item": 1}, "duplicates": 0}
            result |= {"attempt": str(tmp_path), "rows": 1200, "rejected": {"a": 1, "no user": 3}}
            result["snapshots"] = {"items": {"2024-02-28": snapshot}, "users": {}}
        return result

    monkeypatch.setattr(run_days.runner, "run_stage", run_stage)
    run_days.run(str(shop_file), date="2024-03-01")
    text = capsys.readouterr()
    assert json.loads(text.out)["days"][0]["rejected"] == {"a": 1, "no user": 3}
    assert "events of 2024-03-01: 4 of 1,200 records were rejected. 3: no user; 1: a\n" in text.err
    assert "items of 2024-02-28: 1 of 10 records were rejected. 1: no item\n" in text.err
    assert "record 7 of part-0.csv: no user, found null. All: " in text.err
    assert f"{tmp_path}/rejected/records.jsonl\n" in text.err


@pytest.mark.parametrize(
    ("root", "server", "report"),
    [
        ("/data", "https://shop.example/", "https://shop.example/report?version=v1"),
        ("gs://b/r", "https://shop.example", "https://shop.example/report?version=v1"),
        ("gs://b/r", None, "https://storage.cloud.google.com/b/r/shop/versions/v1/report.html"),
        ("s3://b/r", None, None),
        ("/data", None, None),
    ],
)
def test_a_server_shows_the_report_else_the_bucket_does(root, server, report):
    pipeline = SimpleNamespace(name="shop", registry=RegistryConfig(root=root, server=server))
    addresses = DayRun(pipeline, None).addresses("v1")
    assert addresses["folder"] == f"{root}/shop/versions/v1"
    assert addresses.get("report") == report
