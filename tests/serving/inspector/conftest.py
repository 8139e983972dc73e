"""A server of three versions on the circle of twelve items: an early one, a damaged one, and the
live one.

The live one's names and ids hold HTML, and are long. Its fixed order says what was taken before, then what
the towers say.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.serving import conftest as circle
from tests.serving.answers.test_retrieval import files, in_order
from tests.serving.http.conftest import answering, shop

EVIL = "<script>alert('i')</script>"
LONG = "Donaudampfschifffahrtsgesellschaft" * 3
ITEMS = [*circle.ITEMS[:6], f'i06"{EVIL}', *circle.ITEMS[7:]]  # the tower reads two digits
TITLES = [f"<b>Item</b> {n} & {LONG if n == 4 else EVIL}" for n in range(12)]


class Shop(NamedTuple):
    """What the tests go out from: `ask` asks its server, whose live version is `live`."""

    ask: httpx.Client
    early: str
    damaged: str
    live: str


@pytest.fixture(scope="session")
def asked(towers, tmp_path_factory) -> Iterator[Shop]:
    home: Path = tmp_path_factory.mktemp("inspected")
    pipeline = shop(home)
    (home / "early").mkdir()
    (home / "early" / "report.html").write_text(
        "<!doctype html><title>Report</title><style>b {}</style><b>early</b>"
    )
    early = circle.publish(
        pipeline,
        towers,
        home / "early",
        "2024-01-01",
        nominators={},
        settings={"serving": {"exclude_seen": True}},
    )
    damaged = circle.publish(
        pipeline, towers, home / "damaged", "2024-01-02", nominators={}, user_store=False
    )
    kept = home / "registry" / pipeline.name / "versions" / damaged / "items.parquet"
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(circle, "ITEMS", ITEMS)
        carried = files(in_order(history=1, two_tower=0.5))
        live = circle.publish(
            pipeline, towers, home / "live", "2024-01-03", nominators=carried, titles=TITLES
        )
    with answering(pipeline) as ask:
        yield Shop(ask, early, damaged, live)
