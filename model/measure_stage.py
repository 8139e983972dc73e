"""The measure stage: measures versions on the day, and fits the fixed order and the ranker.

The parent is measured on all queries of the day, since it was trained before. The new version is measured
on held-out users only. The stage reads the vectors that `train` wrote, so it needs no TensorFlow.

    metrics.json   the measures (twinspire_core/contracts/day_metrics.py)
    fixed_order.json  weights of the sources (twinspire_core/fusion/rank_fusion.py)
    ranking_rows/  candidates of the newest days (twinspire_core/contracts/ranker_files.py)
    ranker.json, ranker.txt  the ranker that was fitted on them; missing if there is none
    examples.json  lists of a few held-out users (twinspire_core/contracts/day_metrics.py)

U lists, L places of a list, C items of the corpus, D dimensions.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.evaluation.day_queries import (
    HELD_OUT,
    HELD_OUT_CLICKS,
    NEXT_CLICK,
    NEXT_DAY,
    localize,
    not_held_out,
)
from model.evaluation.evaluate import (
    MeasuresDict,
    evaluate_baselines,
    evaluate_ranked,
    measure_against,
)
from model.evaluation.evaluation_set import DayData, EvaluationSet, read_day
from model.evaluation.ranked_lists import (
    DayLists,
    RankedLists,
    VersionLists,
    list_day,
    rank_baselines,
)
from model.evaluation.version_line import (
    compare_with_best,
    line_after,
    remember_day,
)
from model.item_fingerprint import fingerprint
from model.ranking.day_orders import fit_day
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.source_registry import FIXED_ORDER, PURCHASE_HISTORY, RANKED, TWO_TOWER
from twinspire_core.contracts import day_metrics, feature_schema, trained_day
from twinspire_core.contracts.attempts import BestAccepted, Gap, StageContext
from twinspire_core.contracts.day_metrics import (
    DayMetrics,
    ExampleList,
    HeldOutMeasures,
    NextClickMeasures,
    PopularityFigures,
)
from twinspire_core.contracts.measures import Measures
from twinspire_core.contracts.ranker_files import needs_replay
from twinspire_core.contracts.trained_day import TrainedDay
from twinspire_core.metrics.list_metrics import is_first, slice_of, top_k
from twinspire_core.metrics.measure_names import SLICES
from twinspire_core.sources.candidate_sources import fits_of


def run(ctx: StageContext) -> dict[str, Any]:
    """Runs the stage."""
    trained = TrainedDay.read(ctx.inputs["train"])
    ctx = _as_trained(ctx, trained)
    with tempfile.TemporaryDirectory() as scratch:
        tables = [
            storage.join(name, feature_schema.AT_START)
            for name in fits_of(ctx.pipeline.sources.use)
        ]
        # A ranker is fitted on the parent's rows. Without a fresh parent, days must be replayed.
        if needs_replay(ctx.day, ctx.parent):
            tables.append(feature_schema.REPLAY)
        features = localize(ctx, tables, Path(scratch) / "features")
        out = Path(scratch) / "out" if storage.is_remote(ctx.out) else Path(ctx.out)
        out.mkdir(parents=True, exist_ok=True)
        day = read_day(ctx, features)
        lists = list_day(ctx, trained, features, day)
        metrics = measure_day(ctx, features, day, lists, trained, out)
        metrics.write(out)
        held_out, ranked = day.evaluation_sets[HELD_OUT], lists.version.ranked[HELD_OUT]
        examples = pick_examples(ctx.pipeline, held_out, ranked, day.corpus)
        (out / day_metrics.EXAMPLES).write_bytes(day_metrics.dump_examples(examples))
        if storage.is_remote(ctx.out):
            storage.upload_tree(out, ctx.out)
    return {
        "progressive": _headline(ctx, metrics.progressive),
        "holdout": {
            "users": metrics.holdout.users,
            "candidate": _headline(ctx, metrics.holdout.candidate),
            "baseline": _headline(ctx, metrics.holdout.baseline),
        },
    }


def _as_trained(ctx: StageContext, trained: TrainedDay) -> StageContext:
    """The context, with the best accepted version and the gaps of the time when the day was trained."""
    # The registry may have changed since: the measured versions must be those that encoded queries.
    accepted = None
    if best := trained.best:
        accepted = BestAccepted(
            version=best.version, home="", ahead=best.ahead, gone=tuple(best.gone)
        )
    gaps = (map(date.fromisoformat, (gap["from"], gap["to"])) for gap in trained.gaps)
    return replace(ctx, best=accepted, gaps=tuple(Gap(first, last) for first, last in gaps))


def _headline(ctx: StageContext, measures: Measures | None) -> dict[str, float] | None:
    """The measures that the last line of the stage's output shows, in its order."""
    if measures is None:
        return None
    ks = ctx.pipeline.evaluation.ks
    names = [
        *(f"recall@{k}" for k in ks),
        f"ndcg@{min(ks)}",
        f"hit_rate@{min(ks)}",
        "mrr",
        f"coverage@{max(ks)}",
    ]
    return {name: round(measures.values[name], 5) for name in names if name in measures.values}


def measure_day(
    ctx: StageContext,
    features: Path,
    day: DayData,
    lists: DayLists,
    trained: TrainedDay,
    out: Path,
) -> DayMetrics:
    """Measures the parent and the day's version, and fits the fixed order and the ranker.

    Args:
      features: local folder of the features attempt.
      day: the queries, and the items that the users took.
      lists: of the parent, the best accepted version, the day's version, and the sources.
      trained: facts that the train stage wrote.
      out: local folder for the fixed order and the ranker.
    """
    ks = ctx.pipeline.evaluation.ks
    held_out = day.evaluation_sets[HELD_OUT]
    progressive = _measure_before(NEXT_DAY, day, lists, ks)
    alone = lists.of_sources(ctx, day)
    baselines = evaluate_baselines(day.evaluation_sets[NEXT_DAY], ks, alone.get(NEXT_DAY, {}))
    fixed_order, ranker = fit_day(ctx, features, day, lists, out)
    orders = {RANKED: ranker and ranker.progressive, FIXED_ORDER: fixed_order.progressive}
    on_day = {name: measured.values for name, measured in orders.items() if measured}
    on_day |= {TWO_TOWER: progressive or {}, **baselines}
    return DayMetrics(
        progressive=progressive,
        baselines=baselines,
        holdout=HeldOutMeasures(
            **_measure_held_out(HELD_OUT, ctx, day, lists),
            baselines=evaluate_baselines(held_out, ks, alone.get(HELD_OUT, {})),
        ),
        next_click=NextClickMeasures(
            progressive=_measure_before(NEXT_CLICK, day, lists, ks),
            baselines=evaluate_baselines(day.evaluation_sets[NEXT_CLICK], ks),
            holdout=HeldOutMeasures(**_measure_held_out(HELD_OUT_CLICKS, ctx, day, lists)),
        ),
        train=trained.train,
        best=compare_with_best(ctx, day, lists),
        line=line_after(ctx, remember_day(ctx, day, lists, on_day)),
        fixed_order=fixed_order,
        ranker=ranker,
        parent_unread=lists.before.missing_columns,
        held_out_shares=trained.held_out_shares,
        gaps=[gap.describe(ctx.pipeline.name) for gap in ctx.gaps],
        auxiliary=trained.auxiliary,
        popularity=popularity_figures(
            ctx.pipeline,
            day,
            lists.version,
            trained_day.find_log_q(ctx.inputs["train"]),
        ),
        frequency=trained.frequency,
    )


def _measure_before(
    name: str, day: DayData, lists: DayLists, ks: Sequence[int]
) -> MeasuresDict | None:
    """Measures of the parent's lists in one evaluation set; None without such lists."""
    ranked = lists.before.ranked.get(name)
    # Lists are cut because the mean reciprocal rank would count items after the largest k.
    return ranked and evaluate_ranked(day.evaluation_sets[name], ranked.first(max(ks)), ks)


def _measure_held_out(
    name: str, ctx: StageContext, day: DayData, lists: DayLists
) -> dict[str, Any]:
    """Measures of the version's lists; with a parent, also of the parent's lists, and the difference."""
    ks = ctx.pipeline.evaluation.ks
    evaluation_set = day.evaluation_sets[name]
    ranked = lists.version.ranked[name].first(max(ks))
    before = lists.before.ranked[name].first(max(ks)) if ctx.parent else None
    return {
        **measure_against(evaluation_set, ranked, before, ks),
        "days": evaluation_set.days,
    }


GROUPS = 10
"""Groups of items for the report. Each has a tenth of all earlier events; one more group is for items
without events.
"""
ITEMS_SHOWN = 10
"""The most items of an example's list and of its history."""
_DIGITS = 4


def popularity_figures(
    pipeline: Pipeline, day: DayData, version: VersionLists, log_q: np.ndarray | None
) -> PopularityFigures:
    """How popular the items in the lists of held-out users are, for the report.

    Args:
      version: lists of the day's version for these users.
      log_q: [C] float32, natural log of each item's estimated share of the training rows; None
        without an estimate.
    """
    ks = pipeline.evaluation.ks
    k = sorted(ks)[len(ks) // 2]
    evaluation_set = day.evaluation_sets[HELD_OUT]
    lists = {TWO_TOWER: version.ranked[HELD_OUT].counted(evaluation_set.exclude_seen)}
    if log_q is not None:
        items = day.corpus.column("_item")
        trained_items = pc.unique(not_held_out(day.events).column("_item"))
        drawn = evaluation_set.events > 0
        drawn |= pc.is_in(items, trained_items).to_numpy(zero_copy_only=False)
        vectors = version.vectors(HELD_OUT)
        lists["uncorrected"] = rank_uncorrected(
            vectors.queries,
            vectors.items,
            log_q,
            drawn,
            temperature=pipeline.train.temperature,
            k=k,
        )
    for name, baseline in rank_baselines(evaluation_set, k).items():
        if name != PURCHASE_HISTORY:
            lists[name] = baseline.counted(evaluation_set.exclude_seen)
    return PopularityFigures(**popularity(evaluation_set, lists, k))


def popularity_group(events: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The group of each item, [C] int64: 0 for the most popular items, `GROUPS` for those without
    an event.

    Items are sorted by falling number of events. Each group holds about a tenth of all events. An
    item belongs to the group that holds its middle event.

    Args:
      events: [C] int64, how many each item has.
      order: [C] int64, positions by falling number of events.
    """
    ordered = events[order]
    middle = np.cumsum(ordered) - ordered / 2
    group = np.full(len(events), GROUPS, np.int64)
    if ordered.sum():
        group[order] = np.where(ordered > 0, np.floor(GROUPS * middle / ordered.sum()), GROUPS)
    return group


def popularity(
    evaluation_set: EvaluationSet, lists: Mapping[str, np.ndarray], k: int
) -> dict[str, Any]:
    """How popular the items in lists are, compared with the items that users took.

    Args:
      lists: [U, L] positions by name, best first, -1 after the end.
      k: how many items of each list count.

    Returns: `items`, the number of items in each group; `clicks`, the share of each group among the
    true items in the corpus; `lists`, the share of each group among the first k items, by name. The
    most popular group comes first.
    """
    headline = evaluation_set.headline
    group = popularity_group(evaluation_set.events, evaluation_set.popular)
    truth = evaluation_set.truth
    taken = truth.where(headline[truth.row] & (truth.values >= 0))
    listed = {name: ranked[headline][:, :k] for name, ranked in lists.items()}
    return {
        "k": k,
        "items": np.bincount(group, minlength=GROUPS + 1).tolist(),
        "clicks": _shares(group[taken.values]),
        "lists": {name: _shares(group[items[is_first(items)]]) for name, items in listed.items()},
    }


def _shares(groups: np.ndarray) -> list[float]:
    counts = np.bincount(groups, minlength=GROUPS + 1)
    return np.round(counts / max(1, counts.sum()), _DIGITS).tolist()


def rank_uncorrected(
    queries: np.ndarray,
    items: np.ndarray,
    log_q: np.ndarray,
    drawn: np.ndarray,
    *,
    temperature: float,
    k: int,
) -> np.ndarray:
    """The lists that a model without the frequency correction would make, [U, k] int64.

    A softmax over items drawn with probability q has its optimum at
    s = log P(item | query) - log q; with the correction it is at log P(item | query). So this function
    subtracts log q from the scores, which estimates the lists of an uncorrected model without training one.
    Items that training never drew are left out, because such a softmax learns nothing about them.

    Args:
      queries: [U, D] float32, vectors of the queries.
      items: [C, D] float32, vectors of the corpus.
      log_q: [C] float32, natural log of each item's share of the training rows.
      drawn: [C] bool, items that training drew.
      temperature: what training divides inner products by.
      k: length of the lists; -1 fills lists when there are too few items.
    """
    met = np.flatnonzero(drawn)
    # An extra dimension subtracts log q: <(query / t, 1), (item, -log q)>. With t = 0.1, query (0.6, 0.8),
    # item (1, 0) and q = 0.01 the vectors are (6, 8, 1) and (1, 0, 4.6).
    ones = np.ones((len(queries), 1))
    query = np.concatenate([queries / temperature, ones], axis=1, dtype=np.float32)
    item = np.concatenate([items[met], -log_q[met, np.newaxis]], axis=1, dtype=np.float32)
    # The place -1, the end of a list, reads the -1 that is appended.
    return np.append(met, -1)[top_k(query, item, k)[0]]


def pick_examples(
    pipeline: Pipeline, evaluation_set: EvaluationSet, ranked: RankedLists, corpus: pa.Table
) -> list[ExampleList]:
    """One user of each slice by earlier events, with their history, their list, and what they took.
    The newest item of the history comes first; without a history feature, the most frequent one.
    """
    history = pipeline.history_name
    queries = evaluation_set.queries
    user_slice = slice_of(evaluation_set.past_events, SLICES)
    key = fingerprint(queries.column("_user"))
    counted = ranked.counted(evaluation_set.exclude_seen)
    examples = []
    for number in np.unique(user_slice):
        in_slice = np.flatnonzero(user_slice == number)
        # The lowest fingerprint of an id is a choice that does not depend on the lists.
        row = int(in_slice[np.argmin(key[in_slice])])
        past = queries.column(history or "_past")[row].as_py() or []
        listed = counted[row, :ITEMS_SHOWN]
        examples.append(
            ExampleList(
                user=queries.column("_user")[row].as_py(),
                past_events=int(evaluation_set.past_events[row]),
                # A history ends with its newest event.
                history=(past[::-1] if history else past)[:ITEMS_SHOWN],
                items=corpus.column("_item").take(pa.array(listed[listed >= 0])).to_pylist(),
                taken=queries.column("_truth")[row].as_py(),
            )
        )
    return examples
