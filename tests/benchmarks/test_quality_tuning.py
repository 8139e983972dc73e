"""How the quality benchmark chooses settings."""

import json
from pathlib import Path

import pytest

from benchmarks.quality import contenders, search_space, tune


def test_choices_that_were_made_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"globo": {"ials": {"settings": {"model": "ials", "factors": 7}}}}))
    monkeypatch.setattr(contenders, "CHOSEN", file)
    assert contenders.chosen("ials", "globo")["factors"] == 7
    untuned = contenders.chosen("ials", "groceries")
    assert untuned["model"] == "ials"
    assert untuned["factors"] in search_space.ladders("ials", "groceries")["factors"]


GRID = {"a": [1, 2, 3, 4, 5], "b": [10, 20, 30]}


def tries(start: dict[str, int]) -> tuple[list[tuple[dict[str, int], float]], str]:
    """Of `a` 4 is best and of `b` 20."""
    return tune.search(start, GRID, lambda s: -abs(s["a"] - 4) - abs(s["b"] - 20) / 100)


@pytest.mark.parametrize("from_a", [1, 3, 5])
def test_tuning_goes_to_the_best_neighbour_and_never_tries_twice(from_a: int) -> None:
    tried, ended = tries({"a": from_a, "b": 30})
    assert max(tried, key=lambda one: one[1])[0] == {"a": 4, "b": 20}
    assert len(tried) == len({str(settings) for settings, _ in tried})
    # Three that bring nothing follow the best one.
    assert ended == "3 in a row in vain" and tried[-4][0] == {"a": 4, "b": 20}


def test_every_contender_is_tried_by_the_same_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    few = tune.search({"a": 1}, {"a": [1, 2, 3]}, lambda s: -s["a"])
    assert (len(few[0]), few[1]) == (3, "nothing left to try")
    assert len(tune.search({}, {}, lambda s: 0.0)[0]) == 1
    long = {"a": list(range(99))}
    assert len(tune.search({"a": 0}, long, lambda s: s["a"])[0]) == tune.TRIALS == 30
    spent = iter([False, False, True])
    tried, ended = tune.search({"a": 0}, long, lambda s: s["a"], lambda: next(spent))
    assert (len(tried), ended) == (3, "3 CPU hours")
