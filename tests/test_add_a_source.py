import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from twinspire_core.config.source_names import SOURCE_NAMES
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources import candidate_sources
from twinspire_core.sources.candidate_sources import SOURCES, CandidateSources
from twinspire_core.sources.source import Queries

PAGE = (Path(__file__).parents[1] / "docs/guide/sources.md").read_text()
CORPUS = pa.table({"_item": list("abcd"), "_popular": [9, 5, 4, None], "_lately": [0, 1, 4, 7]})


@pytest.fixture
def steady(monkeypatch):
    """The page's example, in the registry."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {"__name__": "steady"}
    exec(compile(code, "docs/guide/sources.md", "exec"), names)
    more = {**SOURCES, "steady": names["Steady"]}
    monkeypatch.setattr(candidate_sources, "SOURCES", more)


def test_the_example_lists_what_it_says(steady):
    sources = CandidateSources.of(CORPUS)
    past = Ragged(np.array([2]), np.array([0]), 2)
    found = sources.retrieve(["steady", "history"], Queries.of_past(past), 3, exclude=past)
    assert found["steady"].items.tolist() == [[1, 0, 3], [2, 1, 0]]
    assert found["steady"].scores[1].tolist() == [4, pytest.approx(5**0.5), 0]
    assert "steady" in sources.without_model, "measured beside the others"


def test_the_page_names_every_source():
    table = PAGE.split("## Add one")[0]
    assert set(re.findall(r"`(\w+)`", table)) >= set(SOURCE_NAMES)
