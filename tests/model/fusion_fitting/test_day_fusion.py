"""Which mix is fitted on whom and judged on whom, in made-up days where it is known which source is
right.
"""

from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.day_data import HELD_OUT, NEXT_DAY, DayData
from model.evaluation.evaluation_set import prepare_whole
from model.evaluation.ranked_lists import RankedLists
from model.fusion_fitting import day_fusion
from model.fusion_fitting.day_fusion import DayFusion
from model.fusion_fitting.fusion_measures import measure_fusions
from model.fusion_fitting.stored_lists import DayLists
from twinspire_core.config.tables.quality import EvaluationConfig
from twinspire_core.config.tables.quality import FusionConfig as Settings
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.contracts.fusion_file import FittedOn
from twinspire_core.contracts.stage_context import Gap
from twinspire_core.fusion.fuse import Fusion
from twinspire_core.metrics.ranking import contains
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.personal_counts import PersonalCounts

TODAY = date(2024, 5, 20)
ITEMS = [f"i{n:03d}" for n in range(400)]
POPULAR = np.arange(400)[::-1]  # events of each item: i000 has most
CORPUS = pa.table({"_item": ITEMS, "_popular": POPULAR, "_lately": POPULAR})
EVALUATION = EvaluationConfig(ks=(5, 10))
SOURCES = ("two_tower", "past", "most_popular")


def queries(
    right: str, events: int, users: int, *, seed: int = 0, held: bool = False, day: date = TODAY
) -> pa.Table:
    """Users whose past is 10 items out of the unpopular half, and who take 3 of what the right
    source lists first.
    """
    rng = np.random.default_rng(seed)
    pasts = [
        [ITEMS[i] for i in 200 + rng.permutation(200)[:10]] if events else [] for _ in range(users)
    ]
    truth = [list(rng.permutation(own if right == "past" else ITEMS[:5])[:3]) for own in pasts]
    strings = pa.list_(pa.string())
    return pa.table(
        {
            "_user": [f"{right}-{events}-{day.day}-{held}-{n}" for n in range(users)],
            "_day": pa.array([day] * users, pa.date32()),
            "_holdout": [held] * users,
            "_truth": pa.array(truth, strings),
            "_past": pa.array(pasts, strings),
            "_past_events": [events] * users,
        }
    )


def by_chance(rows: int, seed: int = 9) -> RankedLists:
    """What a two-tower lists that knows nothing."""
    rng = np.random.default_rng(seed)
    ranked = (
        np.stack([rng.permutation(400)[:100] for _ in range(rows)])
        if rows
        else np.zeros((0, 100), np.int64)
    )
    return RankedLists(ranked, ranked)


def knowing(asked: pa.Table) -> RankedLists:
    """What a two-tower lists that knows what will be taken."""
    taken = [[ITEMS.index(item) for item in row] for row in asked["_truth"].to_pylist()]
    ranked = np.array([[*own, *(i for i in range(110) if i not in own)][:100] for own in taken])
    return RankedLists(ranked, ranked)


def mixing(
    day: pa.Table,
    held: pa.Table,
    *,
    parent: bool = True,
    inherited: Fusion | None = None,
    knows: str = "",
    stored: list[DayLists] | None = None,
    gaps: tuple[Gap, ...] = (),
    mode: str = "incremental",
    parent_day: date = TODAY - timedelta(days=1),
    exclude_seen: bool = False,
    **settings,
) -> DayFusion:
    """`knows` is the version whose two-tower lists what will be taken, `before` or `after`; others
    list by chance.
    """
    evaluation_sets = {
        name: prepare_whole(asked, CORPUS, exclude_seen=exclude_seen)
        for name, asked in ((NEXT_DAY, day), (HELD_OUT, held))
    }
    pipeline = SimpleNamespace(
        mix=Settings(**{"sources": SOURCES, **settings}), evaluation=EVALUATION
    )
    before, after = (
        {NEXT_DAY: knowing(day), HELD_OUT: knowing(held)}
        if knows == which
        else {NEXT_DAY: by_chance(day.num_rows), HELD_OUT: by_chance(held.num_rows)}
        for which in ("before", "after")
    )
    return DayFusion(
        ctx=SimpleNamespace(
            pipeline=pipeline,
            day=TODAY,
            parent=SimpleNamespace(version="v1", day=parent_day) if parent else None,
            gaps=gaps,
            mode=mode,
        ),
        day=DayData(corpus=CORPUS, evaluation_sets=evaluation_sets, events=CORPUS.slice(0, 0)),
        sources=CandidateSources.of(CORPUS),
        fitted_sources=CandidateSources.of(CORPUS),
        parent_lists=before if parent else {},
        lists={HELD_OUT: after[HELD_OUT]},
        inherited=inherited,
        stored=stored or [],
    )


def fit(mixing: DayFusion) -> Fusion | None:
    return mixing.fit(mixing.lists_to_fit_on())


def mix_of(
    *weights: float, on: str = "progressive", day: date = TODAY - timedelta(days=1)
) -> Fusion:
    return Fusion(
        sources=SOURCES,
        bounds=(1, 5, 20),
        weights=np.array([weights] * 4),
        fitted=FittedOn(on=on, day=str(day)),
    )


def best(mix: Fusion, events: int) -> str:
    """The source of the largest weight; none where two have it."""
    weights = mix.of(np.array([events]))[0]
    return SOURCES[weights.argmax()] if np.sum(weights == weights.max()) == 1 else ""


@pytest.mark.parametrize("right", ["past", "most_popular"])
def test_the_right_source_wins_and_finds_all(right):
    day, held = queries(right, 10, 200), queries(right, 10, 50, seed=1, held=True)
    fitted = mixing(pa.concat_tables([day, held]), held)
    mix = fit(fitted)
    assert best(mix, 10) == right
    assert mix.fitted.on == "progressive" and mix.fitted.two_tower == "v1"
    assert mix.fitted.users == {
        "0": 0,
        "1-4": 0,
        "5-19": 200,
        "20+": 0,
    } and mix.fitted.own_weights == ["5-19"]
    figures = measure_fusions(fitted, mix).model_dump()
    assert figures["holdout"]["candidate"]["recall@10"] == 1 and figures["holdout"]["users"] == 50
    assert figures["progressive"] is None and figures["holdout"]["baseline"] is None, (
        "the parent has no mix"
    )


def test_each_slice_has_its_own_weights_if_it_has_the_users(monkeypatch):
    parts = [
        queries("most_popular", 0, 150),
        queries("most_popular", 3, 150),
        queries("past", 30, 150),
    ]
    few = queries("past", 10, 60)
    mix = fit(mixing(pa.concat_tables([*parts, few]), few.slice(0, 0)))
    assert mix.fitted.own_weights == ["0", "1-4", "20+"]
    assert [best(mix, events) for events in (0, 3, 30)] == ["most_popular", "most_popular", "past"]
    monkeypatch.setattr(day_fusion, "LEAST_USERS", 500)
    everybody = fit(mixing(pa.concat_tables([*parts, few]), few.slice(0, 0)))
    assert mix.of(np.array([10])).tolist() == everybody.of(np.array([10])).tolist()
    assert everybody.fitted.own_weights == [] and len(np.unique(everybody.weights, axis=0)) == 1


def test_held_out_users_are_not_fitted_on():
    """All that are held out take what is popular; the others what they had before."""
    day = pa.concat_tables([queries("past", 10, 150), queries("most_popular", 10, 400, held=True)])
    held = queries("most_popular", 10, 400, held=True)
    mix = fit(mixing(day, held))
    assert best(mix, 10) == "past" and sum(mix.fitted.users.values()) == 150


def test_the_parents_mix_is_measured_on_the_day_and_not_the_one_fitted_on_it():
    day, held = queries("past", 10, 200), queries("past", 10, 50, seed=3, held=True)
    fitted = mixing(pa.concat_tables([day, held]), held, inherited=mix_of(0.0001, 0.0001, 1))
    figures = measure_fusions(fitted, fit(fitted)).model_dump()
    assert figures["progressive"]["recall@10"] < 0.05, "of a mix that bets on what is popular"
    assert (
        figures["holdout"]["candidate"]["recall@10"] == 1
        and figures["holdout"]["baseline"]["recall@10"] < 0.05
    )
    assert figures["fitted"]["day"] == str(TODAY)


@pytest.mark.parametrize("knows", ["before", "after"])
def test_each_mix_is_measured_with_the_two_tower_of_its_own_version(knows):
    """Both mixes trust their two-tower; only one of the two is right."""
    held, trusting = queries("past", 10, 50, seed=3, held=True), mix_of(1, 0.0001, 0.0001)
    day = mixing(queries("past", 10, 100), held, inherited=trusting, knows=knows)
    found = measure_fusions(day, trusting).model_dump()
    recall = {who: found["holdout"][who]["recall@10"] for who in ("candidate", "baseline")}
    right, wrong = ("baseline", "candidate") if knows == "before" else ("candidate", "baseline")
    assert recall[right] == 1 and recall[wrong] < 0.1
    assert (found["holdout"]["change"]["recall@10"]["change"] > 0) == (knows == "after")
    assert (found["progressive"]["recall@10"] == 1) == (knows == "before"), (
        "the day is the parent's"
    )


def test_a_first_mix_is_not_measured_on_whom_it_was_fitted_on():
    held = queries("past", 10, 150, held=True)
    first = mixing(pa.concat_tables([queries("most_popular", 10, 300), held]), held, parent=False)
    mix = fit(first)
    assert best(mix, 10) == "past" and mix.fitted.on == "held_out" and mix.fitted.two_tower is None
    figures = measure_fusions(first, mix).model_dump()
    assert figures["progressive"] is None and figures["holdout"]["candidate"] is None
    later = mixing(held, held, inherited=mix_of(0.1, 1, 0.1, on="held_out"))
    assert measure_fusions(later, fit(later)).model_dump()["progressive"]["recall@10"] == 1


def test_earlier_days_held_out_users_are_no_test():
    """What they took has been counted since: their answers are in the tables of the day."""
    earlier = queries("most_popular", 10, 120, held=True, day=TODAY - timedelta(days=2))
    today = queries("past", 10, 40, held=True)
    held = pa.concat_tables([earlier, today])
    fitted = mixing(pa.concat_tables([queries("past", 10, 200), today]), held)
    assert measure_fusions(fitted, fit(fitted)).model_dump()["holdout"]["users"] == 40
    assert fit(mixing(today, held, parent=False)).is_prior, "40 are too few"


def test_too_few_users_leave_the_parents_mix_as_it_is():
    few = queries("past", 10, 99)
    assert fit(mixing(few, few.slice(0, 0))).is_prior
    old = mix_of(0.1, 0.2, 0.7)
    assert fit(mixing(few, few.slice(0, 0), inherited=old)) is old
    other = Fusion(
        sources=("two_tower",),
        bounds=(1, 5, 20),
        weights=np.ones((4, 1)),
        fitted=FittedOn(on="progressive"),
    )
    assert fit(mixing(few, few.slice(0, 0), inherited=other)).is_prior, "it has other sources"


def test_without_what_was_seen_the_past_has_nothing_to_say():
    day = queries("past", 10, 150)
    fitted = mixing(day, day.slice(0, 0), inherited=mix_of(0.1, 1, 0.1))
    measured = measure_fusions(fitted, None).model_dump()["progressive"]
    assert measured["recall@10"] == 1 and measured["excluded"]["recall@10"] == 0


def of_day(right: str, users: int, days_ago: int, *, held: bool = False) -> DayLists:
    """What a day before kept of users who took what this source lists first."""
    asked = queries(right, 10, users, seed=days_ago, held=held)
    made = mixing(asked, asked).lists_to_fit_on()[0]
    return replace(made, day=TODAY - timedelta(days=days_ago), two_tower=f"v-{days_ago}")


def test_users_of_a_day_are_fitted_on_with_those_of_the_days_before():
    """40 users a day: with two days before there are the 100 that are needed. Of today alone, there
    would be no weights.
    """
    day = queries("past", 10, 40)
    stored = [of_day("past", 40, n) for n in (1, 2)] + [of_day("most_popular", 400, 29)]
    mix = fit(mixing(day, day.slice(0, 0), stored=stored))
    assert best(mix, 10) == "past"
    assert mix.fitted.users["5-19"] == 120
    assert (mix.fitted.day, mix.fitted.since) == ("2024-05-20", "2024-05-18")
    assert mix.fitted.two_tower == "v1"


def test_a_day_like_no_other_does_not_decide():
    """Today users took what is popular, and they are more than those of the three days before."""
    day = queries("most_popular", 10, 3_500)
    stored = [of_day("past", 800, n) for n in (1, 2, 3)] + [of_day("past", 800, 4)]
    mix = fit(mixing(day, day.slice(0, 0), stored=stored))
    assert best(mix, 10) == "past"
    assert mix.fitted.users["5-19"] == 1_000 + 3 * 800, "the fourth day before is not needed"
    alone = fit(mixing(day, day.slice(0, 0)))
    assert best(alone, 10) == "most_popular"


def test_lists_are_made_for_no_more_users_of_a_day_than_count(monkeypatch):
    asked = []
    real = CandidateSources.retrieve

    def retrieve(self, names, queries, depth, **options):
        asked.append(len(queries))
        return real(self, names, queries, depth, **options)

    monkeypatch.setattr(CandidateSources, "retrieve", retrieve)
    monkeypatch.setattr(day_fusion, "MOST_OF_A_DAY", 50)
    day = queries("past", 10, 120)
    mixing(day, day.slice(0, 0)).lists_to_fit_on()
    assert asked == [50]


def test_a_slice_with_too_few_users_takes_further_days_back_than_the_others():
    """Users with 30 events are many today; of those with 10 there are enough with yesterday's."""
    day = pa.concat_tables([queries("most_popular", 30, 150), queries("past", 10, 60)])
    mix = fit(mixing(day, day.slice(0, 0), stored=[of_day("past", 60, 1)]))
    assert mix.fitted.own_weights == ["5-19", "20+"]
    assert mix.fitted.users == {"0": 0, "1-4": 0, "5-19": 120, "20+": 150}
    assert [best(mix, events) for events in (10, 30)] == ["past", "most_popular"]


def test_users_held_out_of_a_day_before_are_not_fitted_on():
    """Those who were held out took what is popular, and there are ten times as many of them."""
    day = queries("past", 10, 60)
    stored = [of_day("past", 60, 1), of_day("most_popular", 600, 2, held=True)]
    mix = fit(mixing(day, day.slice(0, 0), stored=stored))
    assert best(mix, 10) == "past" and mix.fitted.users["5-19"] == 120
    assert fit(mixing(day, day.slice(0, 0), stored=stored[1:])).is_prior


def test_what_the_days_own_version_lists_is_not_fitted_on():
    """It knows what was taken, for it was trained on the day; its parent lists by chance."""
    day, held = queries("past", 10, 200), queries("past", 10, 200, seed=1, held=True)
    fitted = mixing(pa.concat_tables([day, held]), held, knows="after")
    assert best(fit(fitted), 10) == "past"
    trusting = fit(mixing(pa.concat_tables([day, held]), held, knows="before"))
    assert best(trusting, 10) == "two_tower", "as the parent's would be trusted"


def test_weights_are_fitted_on_lists_with_the_constants_that_the_version_carries():
    """What trended for a day says nothing, as yesterday's version has it; what did for an hour finds
    all, as this one does.
    """
    names = ("two_tower", "past", "trending")
    columns = {name: np.zeros(400) for name in TRENDING_HALF_LIVES}
    columns["_trending_1h"] = POPULAR
    columns["_trending_1d"] = POPULAR[::-1]
    corpus = CORPUS
    for name, counts in columns.items():
        corpus = corpus.append_column(name, pa.array(counts, pa.float64()))
    day = queries("most_popular", 10, 200)
    before = CandidateSources.of(corpus, constants={"trending": "1d"})
    fitted = replace(
        mixing(day, day.slice(0, 0), sources=names),
        sources=before,
        fitted_sources=before.with_constants({"trending": "1h"}),
    )
    weights = fit(fitted).of(np.array([10]))[0]
    assert names[weights.argmax()] == "trending"


@pytest.mark.parametrize("mode", ["incremental", "full"])
@pytest.mark.parametrize(("missing", "stays"), [(1, False), (2, True)])
def test_after_a_gap_the_parents_weights_stay_and_its_lists_are_not_kept(missing, stays, mode):
    """A parent that is days old lists worse than the one that will serve tomorrow. From scratch
    nobody tells a gap.
    """
    last = TODAY - timedelta(days=1)
    gap = Gap(last - timedelta(days=missing - 1), last)
    day, old = queries("past", 10, 200), mix_of(0.1, 0.2, 0.7)
    before = [of_day("past", 150, 5)]
    after_gap = mixing(
        day,
        day.slice(0, 0),
        inherited=old,
        stored=before,
        gaps=(gap,) if mode == "incremental" else (),
        mode=mode,
        parent_day=gap.first - timedelta(days=1),
    )
    kept = after_gap.lists_to_fit_on()
    assert (after_gap.fit(kept) is old) == stays
    assert (kept[0].day == TODAY) != stays
    next_day = mixing(day, day.slice(0, 0), inherited=old, stored=kept)
    assert best(fit(next_day), 10) == "past", "there are newer lists"


def test_lists_without_one_of_the_sources_are_not_fitted_on():
    day = queries("past", 10, 60)
    lacking = of_day("past", 60, 1)
    del lacking.lists["most_popular"]
    assert fit(mixing(day, day.slice(0, 0), stored=[lacking])).is_prior
    kept = mixing(day, day.slice(0, 0), stored=[lacking]).lists_to_fit_on()
    assert [lists.day for lists in kept] == [TODAY]


def of_kinds(kept: RankedLists, excluded: RankedLists) -> RankedLists:
    return RankedLists(kept.kept, excluded.kept)


def repeating(users: int, **about) -> pa.Table:
    """Users who take two items of their past, and one of what is popular."""
    asked = queries("past", 10, users, **about)
    truth = [[*own[:2], ITEMS[n % 5]] for n, own in enumerate(asked["_past"].to_pylist())]
    return asked.set_column(3, "_truth", pa.array(truth, pa.list_(pa.string())))


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_weights_are_fitted_for_the_lists_that_count(exclude_seen):
    """The past is worth most, where it may be listed again; else what is popular."""
    day = repeating(150)
    fitted = fit(mixing(day, day.slice(0, 0), exclude_seen=exclude_seen))
    weights = dict(zip(SOURCES, fitted.weights[2], strict=True))
    assert max(weights, key=weights.get) == ("most_popular" if exclude_seen else "past")
    # The two-tower's lists that count know what will be taken; the others are by chance.
    day = queries("popular", 10, 150)
    lists = of_kinds(by_chance(150), knowing(day))
    both = mixing(day, day.slice(0, 0), exclude_seen=exclude_seen)
    known = fit(replace(both, parent_lists={**both.parent_lists, NEXT_DAY: lists}))
    weights = dict(zip(SOURCES, known.weights[2], strict=True))
    assert (max(weights, key=weights.get) == "two_tower") == exclude_seen


def test_weights_are_fitted_on_lists_without_what_is_only_counted():
    """What `personal` counts is seen, also where it is of days that the past does not reach."""
    day = repeating(150)
    asked = mixing(day, day.slice(0, 0), exclude_seen=True)
    of_day = asked.day.evaluation_sets[NEXT_DAY]
    counted = PersonalCounts.of_histories(of_day.truth)
    known = {**asked.day.evaluation_sets, NEXT_DAY: replace(of_day, personal=counted)}
    lists = replace(asked, day=replace(asked.day, evaluation_sets=known)).lists_to_fit_on()[0]
    for name in ("past", "most_popular"):
        assert not contains(lists.taken, lists.lists[name].items).any()


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_fusions_are_compared_by_the_lists_that_count(exclude_seen):
    """The past first, then popular items: better than popular items alone only where what was seen
    may be listed.
    """
    held = repeating(300, held=True)
    before, after = mix_of(0, 0, 1), mix_of(0, 1, 0.001)
    fusion = replace(after, fitted=FittedOn(on="progressive"))
    day = mixing(held.slice(0, 0), held, inherited=before, exclude_seen=exclude_seen)
    found = measure_fusions(day, fusion).holdout
    assert found.candidate.kind == found.baseline.kind == ("excluded" if exclude_seen else "kept")
    change = found.change_of("recall@10").change
    assert change == pytest.approx(0) if exclude_seen else change > 0.5


def test_days_that_kept_lists_of_the_other_kind_are_not_fitted_on():
    day = queries("most_popular", 10, 60)
    made = mixing(repeating(60), day.slice(0, 0)).lists_to_fit_on()[0]
    kept = replace(made, day=TODAY - timedelta(days=1))
    for exclude_seen in (False, True):
        stored = mixing(day, day.slice(0, 0), stored=[kept], exclude_seen=exclude_seen)
        days = [lists.day for lists in stored.lists_to_fit_on()]
        assert days == ([TODAY] if exclude_seen else [TODAY, kept.day])


@pytest.mark.parametrize(
    ("right", "kind", "first"), [("past", "repeats", "past"), ("most_popular", "no_repeats", "")]
)
def test_prior_weights_go_by_what_users_took_lately(right, kind, first):
    """What they took, and not what those took who were held out."""
    other = {"past": "most_popular", "most_popular": "past"}[right]
    day = pa.concat_tables([queries(right, 10, 40), queries(other, 10, 400, held=True)])
    mix = fit(mixing(day, day.slice(40)))
    assert (mix.fitted.on, mix.fitted.kind, mix.origin) == ("prior", kind, "prior")
    assert mix.fitted.users["5-19"] == 40 and list(mix.fitted.own_weights) == []
    assert (best(mix, 10) == "past") == (first == "past")
    assert len(np.unique(mix.weights, axis=0)) == 1, "the same for all users"
    np.testing.assert_allclose(mix.weights.sum(1), 1, atol=1e-5)


def test_prior_weights_give_way_to_fitted_ones_and_are_never_inherited():
    few, many = queries("past", 10, 40), queries("past", 10, 150)
    prior = fit(mixing(few, few.slice(0, 0)))
    assert fit(mixing(many, many.slice(0, 0), inherited=prior)).origin == "fitted"
    again = fit(mixing(queries("most_popular", 10, 40), few.slice(0, 0), inherited=prior))
    assert again.fitted.kind == "no_repeats", "told anew from the newest days"


def test_prior_weights_are_judged_on_users_held_out():
    few, held = queries("past", 10, 40), queries("past", 10, 60, seed=1, held=True)
    fitted = mixing(pa.concat_tables([few, held]), held)
    figures = measure_fusions(fitted, fit(fitted))
    assert figures.holdout.users == 60 and figures.holdout.candidate.value("recall@10") == 1
    assert figures.fitted.on == "prior"


def test_without_sources_there_is_no_mix():
    day = queries("past", 10, 150)
    alone = mixing(day, day.slice(0, 0), sources=())
    assert alone.lists_to_fit_on() == [] and fit(alone) is None
