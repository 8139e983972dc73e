import subprocess
import sys
from datetime import datetime

import numpy as np
import pytest

from serving.requests.query_rows import Requests, complete
from serving.version.loaded_version import Version
from tests.index_builder.test_tensorflow_serving import ask
from tests.serving.asking import recommend
from tests.system.days import SECOND, registry_of, twinspire, typed
from twinspire_core.config.pipeline import load
from twinspire_core.contracts.model_bundle import Tower, arrays

pytestmark = pytest.mark.system
NOON = datetime(2024, 3, 11, 12)
ASKED = [
    {"user": "u001"},
    {"user": "u002", "device": "tv", "exclude": ["i000", "i001", "i002", "i003"]},
    {"user": "a newcomer", "history": ["i007", "i011"], "when_hour": 3},
    {},
]


def test_tensorflow_serving_gives_the_lists_of_the_index(shop):
    """In a process that knows TensorFlow alone; made by publish and by embed, the files are the
    same.
    """
    shop.write_text(shop.read_text().replace("tensorflow = false", "tensorflow = true"))
    day, made = (str(shop), "--date", SECOND), []
    typed("publish", *day)  # embed was not asked for it: publish makes it
    made.append(registry_of(shop).state().accepted[-1])
    twinspire("embed", *day, "--force")  # a process that orders its sets otherwise
    # An index that is done names the attempt of embed that it was made from
    twinspire("index", *day, "--force")
    without_tensorflow("publish", *day, "--force")
    made.append(registry_of(shop).state().accepted[-1])
    assert made[0] == made[1]
    version = Version.open(load(shop))
    assert version.id == made[0] and version.index.settings.kind == "exact"
    table, _ = complete(Requests(version.pipeline).table(ASKED), version.users, NOON)
    tower = version._tower
    assert isinstance(tower, Tower)
    raw = {name: _plain(values) for name, values in arrays(table, tower.inputs).items()}
    exclude = [one.get("exclude", [""] * 4) for one in ASKED]
    encoded, nearest = ask(
        version.home / "tensorflow_serving",
        {"signature": "encode", "inputs": raw},
        {"signature": "recommend", "inputs": {**raw, "k": 10, "exclude": exclude}},
    )
    np.testing.assert_allclose(encoded["vector"], version.encode(table), atol=1e-6)
    expected = recommend(version, ASKED, 10, source="two_tower", now=NOON)
    items, scores = expected.lists(version.items["_item"].combine_chunks())
    assert nearest["items"] == items.to_pylist()
    np.testing.assert_allclose(nearest["scores"], scores.to_pylist(), atol=1e-6)


def without_tensorflow(*arguments: str) -> None:
    """Runs a command in a process in which nothing can load TensorFlow."""
    code = (
        "from twinspire.cli import main; from twinspire_core import native_code;"
        "native_code.never_import('tensorflow'); main.main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def _plain(values: np.ndarray) -> list:
    return np.vectorize(
        lambda one: one.decode() if isinstance(one, bytes) else one, otypes=[object]
    )(values).tolist()
