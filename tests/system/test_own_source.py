"""A source in a file next to the pipeline file: listed, measured and served by it; refused without it."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.shop import lay_out
from tests.system.days import FIRST, ROOT, registry_of, twinspire
from twinspire_core.config.source_registry import ENTRIES
from twinspire_core.contracts.day_metrics import DayMetrics

pytestmark = pytest.mark.system

[STEADY] = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs/guide/sources.md").read_text(), re.DOTALL
)
USE = '[sources]\nuse = ["two_tower", "popular", "steady.py"]\n'


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    file = lay_out(tmp_path_factory.mktemp("shop"))
    (file.parent / "steady.py").write_text(STEADY)
    file.write_text(file.read_text() + USE)
    twinspire("run", str(file), "--date", FIRST)
    yield file
    ENTRIES.pop("steady", None)  # other tests of this process list by the project's sources alone


def test_a_version_uses_and_measures_a_custom_source(shop):
    version = registry_of(shop).open(FIRST)
    items = pq.read_table(version / "items.parquet")
    score = np.sqrt(items["_popular"].to_numpy() * items["_lately"].to_numpy())
    best = items["_item"].take(np.argsort(-score, kind="stable")[:5]).to_pylist()
    asked = ("recommend", str(shop), "--user", "u1", "--source", "steady", "--k", "5", "--json")
    assert [item["item"] for item in twinspire(*asked)["items"]] == best
    metrics = DayMetrics.parse((version / DayMetrics.FILE).read_bytes())
    assert "steady" in json.dumps(metrics.model_dump(mode="json"))


def test_a_version_is_not_served_without_its_custom_source(shop):
    ask = ("recommend", str(shop), "--user", "u1", "--json")
    own = shop.parent / "steady.py"
    try:
        own.write_text(STEADY + "# changed\n")
        assert "needs steady.py, which is not in the folder" in twinspire(*ask, check=2)
    finally:
        own.write_text(STEADY)
    whole = shop.read_text()
    try:
        shop.write_text(whole.replace(USE, ""))
        assert "needs steady.py, which is not in the folder" in twinspire(*ask, check=2)
        shop.write_text(whole.replace("steady.py", "moon.py"))
        assert "cannot be read" in twinspire(*ask, check=2)
    finally:
        shop.write_text(whole)
    twinspire(*ask)
    assert "popular, steady, but no 'stedy'" in twinspire(*ask, "--source", "stedy", check=2)
