import math
from datetime import date
from pathlib import Path
from types import SimpleNamespace

from twinspire_core import storage
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Attempt

WRITTEN = """{
 "key": "k",
 "config": "c",
 "output": "o",
 "mode": "full",
 "parent": null,
 "inputs": {
  "features": "dt=2024-03-01/features/0001-aa"
 },
 "summary": {
  "caf\\u00e9": [
   1.5,
   NaN
  ],
  "ends": null
 },
 "committed_at": "%s"
}"""


def made(uri: str) -> Attempt:
    inputs = {"features": "dt=2024-03-01/features/0001-aa"}
    summary = {"café": (1.5, math.nan), "ends": None}
    keys = {"key": "k", "config": "c", "output": "o", "mode": "full", "parent": None}
    return Attempt(uri=uri, inputs=inputs, summary=summary, **keys)


def test_a_marker_has_these_bytes(place):
    attempts.commit(made(place))
    read = attempts.read(place)
    written = storage.read_bytes(storage.join(place, attempts.DONE)).decode()
    assert written == WRITTEN % read.committed_at
    assert (read.uri, read.mode) == (place, "full")


def test_a_committed_attempt_is_not_committed_again(place):
    attempts.commit(made(place))
    attempts.commit(made(place).model_copy(update={"key": "another"}))
    assert attempts.read(place).key == "k"


STRAY = ["README", "dt=", "dt=old", "dt=2024-99-01", "dt=20240302", "2024-03-03", "dt=2024-03-04-b"]


def test_folders_that_somebody_else_put_there_are_of_no_day(tmp_path):
    work = SimpleNamespace(work_root=str(tmp_path))
    pipeline = SimpleNamespace(name="shop", pipeline=work)
    for name in ["dt=2024-03-02", "dt=2024-03-01", *STRAY]:
        Path(attempts.place(pipeline, f"{name}/features")).mkdir(parents=True)
    assert attempts.days(pipeline) == [date(2024, 3, 1), date(2024, 3, 2)]


def test_foreign_files_next_to_partials_belong_to_no_day(tmp_path):
    day = date(2024, 3, 9)
    (tmp_path / f"dt={day}").mkdir()
    (tmp_path / f"dt={day}" / "events-key-0-of-1.arrow").write_bytes(b"four")
    for stray in ("README", "dt=2024-03-10", "dt=2024-99-10/a", "dt=20240310/b", "d/e/f"):
        (tmp_path / stray).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / stray).touch()
    assert attempts.partials_by_day(str(tmp_path)) == {day: 4}
