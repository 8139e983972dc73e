"""How the quality benchmark chooses settings."""

import json
from pathlib import Path

import pytest

from benchmarks.quality import bench, contenders, logs, prepare, search_space, tune
from twinspire_core.config import pipeline

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("split", logs.LOGS)
def test_all_settings_are_keys_of_a_pipeline_file(split: str) -> None:
    shop = "pipelines/groceries.toml"
    files = {"globo": "pipelines/news.toml", "groceries": shop, "small-shop": shop}
    p = pipeline.load(ROOT / files.get(split, "benchmarks/pipelines/movielens.toml"))
    for name in contenders.ENCODERS:
        settings = contenders.chosen(name, split)
        for key, values in search_space.ladders(name, split).items():
            for value in values:
                trained = prepare.override(
                    p, contenders.of_pipeline({**settings, key: value})
                ).train
                assert trained.history.pooling == "mean" and not trained.skip


@pytest.mark.parametrize("split", sorted(set(logs.CASES.values())))
def test_what_was_chosen_stands_on_its_ladder(split: str) -> None:
    """So that tuning can go on from there."""
    for name in contenders.TUNED:
        settings = contenders.chosen(name, split)
        for key, ladder in search_space.ladders(name, split).items():
            assert key not in settings or settings[key] in ladder, (name, key)


def test_choices_that_were_made_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"globo": {"ials": {"settings": {"model": "ials", "factors": 7}}}}))
    monkeypatch.setattr(contenders, "CHOSEN", file)
    assert contenders.chosen("ials", "globo")["factors"] == 7
    untuned = contenders.chosen("ials", "groceries")
    assert (
        untuned["model"] == "ials"
        and untuned["factors"] in search_space.ladders("ials", "groceries")["factors"]
    )


GRID = {"a": [1, 2, 3, 4, 5], "b": [10, 20, 30]}


def tries(start: dict[str, int], most: int) -> list[tuple[dict[str, int], float]]:
    """Of `a` 4 is best and of `b` 20."""
    return tune.search(start, GRID, lambda s: -abs(s["a"] - 4) - abs(s["b"] - 20) / 100, most)


@pytest.mark.parametrize("from_a", [1, 3, 5])
def test_tuning_goes_to_the_best_neighbour_and_never_tries_twice(from_a: int) -> None:
    tried = tries({"a": from_a, "b": 30}, 12)
    assert max(tried, key=lambda one: one[1])[0] == {"a": 4, "b": 20}
    assert len(tried) == 12 == len({str(settings) for settings, _ in tried})


def test_every_contender_has_as_many_trials_or_tries_all_there_is() -> None:
    assert len(tries({"a": 1, "b": 10}, 99)) == 15
    assert len(tune.search({"a": 1}, {"a": [1, 2, 3]}, lambda s: 0.0, 12)) == 3
    assert len(tune.search({}, {}, lambda s: 0.0, 12)) == 1


def test_committed_trials_are_as_many_for_all() -> None:
    for split, of_log in contenders.all_chosen().items():
        for name, told in of_log.items():
            if "trials" not in told:
                assert told["chosen_before"]  # and it is told in the decision
                continue
            possible = 1
            for ladder in search_space.ladders(name, split).values():
                possible *= len(ladder)
            # Fewer of those that take minutes each, and it is told in the decision.
            most = told.get("most_trials", bench.TRIALS)
            assert len(told["trials"]) == min(most, possible), (split, name)
            best = max(told["trials"], key=lambda trial: trial["recall@50"])
            assert told["settings"] == best["settings"]
