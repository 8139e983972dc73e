"""The benchmark of training in small."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import training


def test_a_quick_run_tells_examples_per_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {
        name: case._replace(batch=16, items=30, users=20) for name, case in training.CASES.items()
    }
    monkeypatch.setattr(training, "CASES", {name: small[name] for name in ("1024", "256 long")})
    monkeypatch.setattr(training, "QUICK", {"steps": 3, "times": 1})
    file = tmp_path / "training.json"
    monkeypatch.setattr(sys, "argv", ["training.py", "--quick", "--json", str(file)])
    training.main()
    rows = json.loads(file.read_text())["rows"]
    assert [(row["case"], row["contender"]) for row in rows] == [
        (name, "twinspire/mean") for name in training.CASES
    ]
    assert all(row["value"] > 0 for row in rows)
