import pytest

from tests.index_builder.gate.gates import changed, gate, verdict
from twinspire_core.contracts.day_metrics import HeldOutMeasures, RankerMeasures
from twinspire_core.contracts.ranker_file import RankerFit

FITTED = RankerFit(queries=1000)


def judged(*told, fitted=FITTED, gate=None, **changes):
    """With a change of the trees' recall, and the ends of its interval."""
    measured = changed(*told, **changes) if told else {"candidate": {"recall@50": 0.2}}
    ranker = RankerMeasures(fitted=fitted, holdout=HeldOutMeasures(users=80, **measured))
    return verdict(**({"gate": gate} if gate else {}), ranker=ranker)


def about_trees(found):
    return [text for text in found.notes if "trees are not compared" in text]


@pytest.mark.parametrize(
    ("change", "low", "high", "differ", "accepted"),
    [
        (-0.80, -0.9, -0.60, 70, False),
        (-0.20, -0.3, -0.101, 70, False),  # all of the interval beyond a tenth
        (-0.20, -0.3, -0.099, 70, True),  # not all of it
        (-0.90, -1.0, -0.80, 9, True),  # nine users are nothing to conclude from
        (-0.90, -1.0, -0.80, 10, False),
        (-0.09, -0.0999, -0.05, 70, True),  # surely less, but less than a tenth
        (0.10, 0.05, 0.15, 70, True),
    ],
)
def test_trees_are_refused_when_their_loss_is_surely_large(change, low, high, differ, accepted):
    found = judged(change, low, high, differ=differ)
    assert found.accepted == accepted
    assert (found.figures.trees.change, found.figures.trees.baseline) == (change, 0.2)
    assert bool(about_trees(found)) == (differ < 10)
    if not accepted:
        (reason,) = found.refused
        assert reason.startswith(f"recall@50 of the trees is {0.2 * (1 + change):.4f}")
        assert "of the version before find 0.2000" in reason and f"{high:+.1%}" in reason


@pytest.mark.parametrize(
    ("high", "differ", "worse", "accepted"),
    [(-0.8, 7, 7, False), (-0.8, 6, 6, True), (-0.8, 9, 8, True), (-0.09, 9, 9, True)],
)
def test_of_few_users_all_that_differ_have_to_be_worse(high, differ, worse, accepted):
    found = judged(-0.9, -1.0, high, differ=differ, worse=worse)
    assert found.accepted == accepted
    assert bool(about_trees(found)) == (worse < differ or differ < 7)


def test_what_is_put_up_with_is_the_files():
    assert judged(-0.2, -0.3, -0.101, gate=gate(max_drop=0.11)).accepted


def test_without_trees_before_the_rule_begins_and_says_so():
    found = judged()
    assert found.accepted and len(about_trees(found)) == 1
    assert about_trees(found)[0].endswith(
        "there are none for the same sources. The rule begins here"
    )


def test_a_version_without_trees_is_not_judged_by_them():
    found = judged(-0.8, -0.9, -0.6, fitted=None)
    assert found.accepted and found.serves == "fixed_order"
    assert verdict(ranker=None).notes == ()
