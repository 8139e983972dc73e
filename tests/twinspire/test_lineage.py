"""Which days did not learn from which, over a registry of versions that hold nothing."""

import hashlib
from datetime import date
from types import SimpleNamespace

import pytest

from index_builder.manifest import File, Manifest
from index_builder.registry import Registry
from twinspire import lineage
from twinspire.stages import Gap


def day(n):
    return date(2024, 2, n)


@pytest.fixture
def shop(tmp_path):
    """A pipeline whose logs miss the 27th, and a function that publishes a version of a day."""
    pipeline = SimpleNamespace(
        name="shop",
        pipeline=SimpleNamespace(work_root=str(tmp_path / "work")),
        registry=SimpleNamespace(root=str(tmp_path / "registry")),
        source=SimpleNamespace(events=f"{tmp_path}/events/dt={{date}}/"),
    )
    for n in (*range(20, 27), 28, 29):
        (tmp_path / f"events/dt={day(n)}").mkdir(parents=True)
        (tmp_path / f"events/dt={day(n)}/part.csv").touch()
    registry, count = Registry(pipeline.registry.root, "shop"), iter(range(99))

    def publish(n, parent=None, *, accepted=True):
        content = str(next(count)).encode()
        (tmp_path / "staged").mkdir(exist_ok=True)
        (tmp_path / "staged/file").write_bytes(content)
        files = {"file": File(sha256=hashlib.sha256(content).hexdigest(), size=len(content))}
        described = Manifest.create(pipeline="shop", day=day(n), files=files, parent=parent, items=1, dimension=1)
        registry.publish(str(tmp_path / "staged"), described, accepted=accepted, reason="")
        return described.version

    return pipeline, publish


def test_gaps_are_days_with_logs_in_unbroken_stretches(shop):
    pipeline, publish = shop
    one = publish(21)
    publish(23, one, accepted=False)
    publish(25, one)
    found = lineage.missing(pipeline, day(21), date(2024, 3, 1))
    assert found == [Gap(day(22), day(24)), Gap(day(26), day(26)), Gap(day(28), day(29))]  # and no day after February
    assert found[0].told("a-shop")["command"] == "twinspire run a-shop --from 2024-02-22 --to 2024-02-24"
    assert lineage.missing(pipeline, None, day(29)) == lineage.missing(pipeline, day(28), day(29)) == []


def test_a_day_that_was_never_trained_would_go_on_from_the_newest(shop):
    pipeline, publish = shop
    publish(21)
    assert lineage.lineage(pipeline, day(23)).gaps == [Gap(day(22), day(22))]
    assert lineage.lineage(pipeline, day(20)) == lineage.Lineage(
        gaps=[], filled=[], heirs=[], later=Gap(day(20), day(21))
    )


def test_heirs_of_a_filled_day_are_all_that_descend_from_those_that_passed_it_by(shop):
    pipeline, publish = shop
    first = publish(20)
    passed = publish(22, first)
    publish(23, passed)
    publish(24)  # from scratch: it learned from all days of its window
    filled = publish(21, first)
    assert lineage.lineage(pipeline, day(21)).heirs == [Gap(day(22), day(23))]
    publish(22, filled)
    assert lineage.lineage(pipeline, day(21)).heirs == [Gap(day(23), day(23))]
