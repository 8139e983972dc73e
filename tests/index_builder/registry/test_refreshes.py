"""Versions that were not trained, but have a later catalogue: which is live, and what days go on
from.
"""

import pytest

from index_builder.registry.quality_history import quality_of
from tests.index_builder.registry.staging import ONE, THREE, TWO
from tests.index_builder.registry.test_races import before
from twinspire_core import storage
from twinspire_core.errors import TryAgain


def test_days_go_on_from_what_was_trained_however_often_it_was_refreshed(
    publish, refresh, registry
):
    one = publish(ONE)
    assert [refresh(one, TWO), refresh(one, THREE)] == registry.state().accepted[1:]
    assert registry.accepted_before(TWO).version == one
    again = publish(ONE, "trained again", promote="no")
    refresh(one, THREE, "the first one once more")
    assert registry.accepted_before(TWO).version == again, (
        "the one trained last, whatever was refreshed later"
    )


def test_where_the_trained_one_was_pruned_days_go_on_from_its_refresh(publish, refresh, registry):
    one = publish(ONE)
    two = refresh(one, TWO)
    registry.delete(one)
    assert registry.accepted_before(THREE).version == two == registry.live()
    later = refresh(one, THREE, while_live=one)
    assert registry.live() == later, "and it is refreshed from there"


def test_by_itself_no_older_catalogue_goes_live(publish, refresh, registry):
    one = publish(ONE)
    newest, older = refresh(one, THREE), refresh(one, TWO)
    assert registry.live() == newest and registry.state().behind(older) == "catalogue"
    two = publish(TWO, "trained on a later day")
    assert registry.live() == newest and registry.state().behind(two) == "catalogue"
    assert registry.state().behind(publish(ONE, "trained again")) == "catalogue"
    both = refresh(two, THREE)
    assert registry.live() == both and registry.state().behind(newest) == "training"
    assert refresh(one, TWO, "asked for", promote="yes") == registry.live()


def test_a_rollback_goes_back_over_a_refresh(publish, refresh, registry):
    one = publish(ONE)
    two = refresh(one, TWO)
    entry = registry.rollback(reason="half of the catalogue was missing")
    assert (entry.live, entry.rolled_back) == (one, (two,))
    assert registry.accepted_before(THREE).version == one
    assert refresh(one, TWO) == two and registry.live() == one, (
        "the same content does not come back by itself"
    )
    assert refresh(one, TWO, "mended") == registry.live()


@pytest.mark.parametrize("deed", ["train", "roll back", "promote"])
def test_what_other_towers_went_live_for_is_not_undone(
    publish, refresh, registry, monkeypatch, deed
):
    one, two = publish(ONE), publish(TWO)
    deeds = {
        "train": lambda: publish(THREE),
        "roll back": lambda: registry.rollback(one, reason=""),
        "promote": lambda: registry.promote(one, reason=""),
    }
    before(monkeypatch, "log/00000003.json", deeds[deed])
    with pytest.raises(TryAgain, match="Refresh again"):
        refresh(two, THREE, while_live=two)
    assert len(registry.log()) == 3 and registry.live() != two
    assert not registry.state().refreshes and registry.accepted_before(THREE).version in (one, two)


def test_two_refreshes_at_once_do_not_hinder_each_other(publish, refresh, registry, monkeypatch):
    one = publish(ONE)
    before(monkeypatch, "log/00000002.json", lambda: refresh(one, TWO, "the other", while_live=one))
    mine = refresh(one, TWO, "mine", while_live=one)
    assert registry.live() == mine and len(registry.log()) == 3
    assert refresh(one, TWO, "mine", while_live=one) == mine and len(registry.log()) == 3


def test_the_next_days_run_measures_the_towers(publish, refresh, registry, monkeypatch):
    """Whichever catalogue they were live with."""
    one = publish(ONE)
    refreshed, two = refresh(one, TWO), publish(THREE)
    refresh(two, THREE, "later on that day")
    asked = {one: b"{}", refreshed: b"{}", two: b'{"progressive": {"recall@50": 0.25}}'}
    for version, metrics in asked.items():
        storage.write_bytes(registry.place(version, "metrics.json"), metrics)
    quality = quality_of(registry, registry.log(), [one, refreshed, two])
    assert quality[one].next_day == quality[refreshed].next_day and quality[two].next_day is None
    next_day = quality[one].next_day
    assert next_day.version == two
    assert next_day.metrics.progressive.model_dump() == {"recall@50": 0.25}
