import pytest

from index_builder.gate.skew_rule import judge_skew
from tests.index_builder.gate.gates import gate, verdict
from twinspire_core.contracts.features_report import FeatureSkew, ValueRange


def values(median: float) -> ValueRange:
    return ValueRange(low=0, tenth=median / 2, median=median, ninetieth=median * 2, high=median * 3)


def number(kind="count", distance=0.5, outside=0.3, trained=40.0, served=2.0) -> FeatureSkew:
    return FeatureSkew(
        feature="sold",
        kind=kind,
        distance=distance,
        outside=outside,
        trained=values(trained),
        served=values(served),
    )


def said(*features: FeatureSkew, **limits) -> list[str]:
    return [text for _, text in judge_skew(features, gate(**limits))]


@pytest.mark.parametrize(
    ("distance", "outside", "named"),
    [
        (0.3, 0.1, []),
        (0.31, 0.1, ["above 0.3"]),
        (0.3, 0.11, ["above 0.1"]),
        (0.9, 0.9, ["above 0.3", "above 0.1"]),
    ],
)
def test_only_what_is_beyond_a_limit_is_told(distance, outside, named):
    texts = said(number(distance=distance, outside=outside))
    assert len(texts) == bool(named) and all(name in texts[0] for name in named)
    assert said(number(distance=distance, outside=outside), on_skew="ignore") == []


@pytest.mark.parametrize(
    ("feature", "cause"),
    [
        (number(), "were quiet"),
        (number(served=400), "as with news"),
        (number("age", served=400), "Few items are new"),
        (number("age"), "Nearly all items are new"),
        (number("number", trained=20, served=2000), "unit"),
        (number("number", trained=2000, served=-20), "unit"),
        (number("number", trained=20, served=0), "unit"),
        (number("number", trained=20, served=40), "train on more days"),
    ],
)
def test_the_cause_follows_from_the_kind_and_the_direction(feature, cause):
    assert cause in said(feature)[0]


def test_it_is_a_note_or_a_refusal_or_nothing():
    def judged(**limits):
        return verdict(gate(**limits), skew=[number()])

    warned = judged()
    assert warned.accepted and "sold" in warned.notes[0]
    refused = judged(on_skew="refuse")
    assert not refused.accepted and "sold" in refused.refused[0] and not refused.notes
    ignored = judged(on_skew="ignore")
    assert ignored.accepted and not ignored.notes
