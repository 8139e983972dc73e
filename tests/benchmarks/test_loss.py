"""The benchmark of the softmax in small."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import loss


def test_blocked_and_plain_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    from model.losses import blockwise_softmax

    monkeypatch.setattr(blockwise_softmax, "BLOCK_PAIRS", 300 * 64)  # blocks of 64 rows
    assert loss.difference(300)["difference"] < 1e-5


def test_a_quick_run_measures_processes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "QUICK", (64,))
    file = tmp_path / "loss.json"
    monkeypatch.setattr(sys, "argv", ["loss.py", "--quick", "--json", str(file)])
    asked = []
    monkeypatch.setattr(
        loss, "apart", lambda *of: asked.append(of) or {"seconds": 0.5, "peak_mb": 10.0}
    )
    loss.main()
    assert asked == [
        (name, 64) for name in ("twinspire/blocked", "plain", "twinspire/step", "difference")
    ]
    assert {row["metric"] for row in json.loads(file.read_text())["rows"]} == {"seconds", "peak_mb"}
    monkeypatch.undo()
    found = loss.apart("plain", 64)
    assert found["seconds"] > 0 and 0 < found["peak_mb"] < 500
