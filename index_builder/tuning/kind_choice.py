"""Which kind of index suits a corpus: comparing all, codes of all, or a tree of them; and the index
of that kind, built.

It may take over the settings of an earlier version's, which spares the search for them.
docs/decisions/0007-index.md
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from index_builder.tuning.settings_search import (
    Point,
    Truth,
    affordable,
    leaves_suffice,
    measure,
    step_up,
    tune,
    untuned,
    work,
)
from twinspire_core.contracts.attempts import NO_START, Start
from twinspire_core.contracts.index_figures import SettingsOrigin
from twinspire_core.errors import BadData
from twinspire_core.search.index import EXACT_SHARE, ExactIndex, Index, Kind, Settings
from twinspire_core.terminal import console

# Items; fewer do not train a codebook, and comparing them all takes microseconds
_LEAST_CODED = 1_000
# Dimensions, in order of trying
_CODES: Mapping[Kind, tuple[Literal[2, 1], ...]] = {"tree": (2, 1), "quantised": (2,)}
_WORTH = 0.8  # share of exact search's work that is worth an index
CHANGE = 1 / 3
"""What is no small change: of the corpus since the settings were searched for, or of the work that
they are.
"""


class Wanted(NamedTuple):
    """What an index is to reach, and which kinds are tried.

    Attributes:
      recall_target: share of the exact neighbours that it finds.
      tree_above: items above which only trees are tried: they are then quicker than a scan of all
        codes.
      exact_below: items below which all are compared: that takes less than a millisecond.
      k: neighbours at which recall is measured, as many as a list of candidates has.
    """

    recall_target: float = 0.98
    tree_above: int = 50_000
    exact_below: int = 10_000
    k: int = 100


@dataclass(frozen=True, slots=True)
class Built:
    """An index and how it came about.

    Attributes:
      index: tuned.
      tried: settings that were measured on the tuning queries.
      reasons: why it is of its kind.
      origin: whether its settings were inherited or tuned.
    """

    index: Index
    tried: list[Point]
    reasons: list[str]
    origin: SettingsOrigin


def build(
    vectors: np.ndarray, tuning: np.ndarray, wanted: Wanted, start: Start = NO_START
) -> Built:
    """Builds an index of the kind that suits the corpus, with little work that surely reaches the
    recall target.

    Its settings are those of an earlier version, as long as they reach it too; else those of the
    least work.

    Args:
      vectors: [N, D] float32, finite.
      tuning: [Q, D] float32, queries to choose the settings by.
      wanted: what the index is to reach, and which kinds are tried.
    """
    if not len(vectors):
        raise BadData("An index needs items, and there are none.")
    kinds, reason = strategy(len(vectors), wanted)
    exact = ExactIndex(vectors, Settings(kind="exact", k=min(wanted.k, len(vectors))))
    if not kinds:
        return Built(exact, [], [reason], _searched_anew(exact, kinds, reason))
    truth = Truth.by_exact_search(vectors, tuning, exact.settings.k)
    tried = list[Point]()
    why = unfit(start, vectors, truth.k, kinds, wanted)
    if not why and start.index and start.index.tuning:
        # Why it was tuned again, empty if the settings still reach the target as they are
        index, why = take_over(vectors, truth, wanted.recall_target, start, partial(_note, tried))
        if index:
            how = "tuned" if why else "inherited"
            origin = start.index.tuning.model_copy(
                update={"how": how, "version": start.version, "why": why}
            )
            return Built(index, tried, [reason, *start.index.reasons[1:]], origin)
    # Nothing was inherited, or it would be too much work now
    console.print(f"index: searching for settings again: {why}", highlight=False)
    best, reasons = _least(exact, kinds, truth, wanted.recall_target, partial(_note, tried))
    return Built(best, tried, [reason, *reasons], _searched_anew(best, kinds, why))


def strategy(items: int, wanted: Wanted) -> tuple[tuple[Kind, ...], str]:
    """The kinds of index to try for a corpus of so many items, besides comparing all, and why."""
    least = max(wanted.exact_below, _LEAST_CODED)
    if items < least:
        return (), f"{items:,} items, below {least:,}: comparing all is fastest"
    if wanted.k * EXACT_SHARE > items:
        return (), f"k = {wanted.k} is more than a quarter of {items:,} items"
    if items <= wanted.tree_above:
        return ("tree", "quantised"), f"{items:,} items, not above {wanted.tree_above:,}"
    return ("tree",), f"{items:,} items, above {wanted.tree_above:,}"


def unfit(
    start: Start, vectors: np.ndarray, k: int, kinds: tuple[Kind, ...], wanted: Wanted
) -> str:
    """Why the settings of an earlier version are not tried; empty if they are.

    Args:
      vectors: [N, D] float32, of today's items.
      kinds: those that suit so many items.
      wanted: what the index is to reach.
    """
    if not start.version:
        return start.why
    before = start.index
    assert before, "of a version"
    items, width = vectors.shape
    then = before.tuning.items
    if (before.k, before.recall_target) != (k, wanted.recall_target):
        return f"{start.version} was tuned for recall@{before.k} {before.recall_target}"
    if before.dimension != width:
        return f"vectors of {width} numbers; those of {start.version} have {before.dimension}"
    if before.tuning.kinds != kinds:
        return f"other kinds of index suit {items:,} items than were compared for {start.version}"
    if abs(items - then) >= CHANGE * then:
        return (
            f"{items:,} items; there were {then:,} when the settings of {start.version} were"
            " searched for"
        )
    return ""


def take_over(
    vectors: np.ndarray, truth: Truth, target: float, start: Start, tried: Callable[[Point], None]
) -> tuple[Index | None, str]:
    """Builds an index with an earlier version's settings. Where they miss the target, steps up from
    them.

    Args:
      vectors: [N, D] float32, one row per item.
      truth: the queries that choose the settings.
      target: recall, in [0, 1].
      tried: is called with every point.

    Returns: the index, None if it would be too much work; and why it was tuned, empty if it was
    not.
    """
    from twinspire_core.search.scann_index import ScannIndex

    inherited = start.index
    assert inherited, "of a start that is fit"
    stored = inherited.settings
    settings = Settings(
        kind=stored.kind,
        k=stored.k,
        rescored=stored.rescored,
        leaves=stored.leaves,
        leaves_searched=stored.leaves_searched,
        code_dimensions=stored.code_dimensions,
    )
    if settings.kind == "exact":
        return ExactIndex(vectors, settings), ""
    index = ScannIndex.build(
        vectors, untuned(settings.kind, settings.code_dimensions, settings.k, settings.leaves)
    )
    point = measure(index, truth, settings)
    tried(point)
    if point.recall.sure >= target:
        return index.with_settings(settings), ""
    why = (
        f"with the settings of {start.version} recall was {point.recall.mean:.4f} ±"
        f" {point.recall.error:.4f}"
    )
    # What drifts needs a little more; where it takes much more, another search will find less
    most = inherited.tuning.work * (1 + CHANGE)
    better = step_up(index, truth, target, tried, settings, most)
    if better is None:
        return None, why
    return index.with_settings(better.settings), why


def _least(
    exact: ExactIndex,
    kinds: Sequence[Kind],
    truth: Truth,
    target: float,
    tried: Callable[[Point], None],
) -> tuple[Index, list[str]]:
    """The index with the least work of all kinds, and what speaks against the others."""
    best: Index = exact
    reasons = list[str]()
    for kind in kinds:
        best = _least_of_kind(best, kind, truth, target, tried, reasons)
    # What falls into no leaves may be worth a scan of all its codes
    if best is exact and "quantised" not in kinds:
        best = _least_of_kind(best, "quantised", truth, target, tried, reasons)
    return best, reasons


def _least_of_kind(
    best: Index,
    kind: Kind,
    truth: Truth,
    target: float,
    tried: Callable[[Point], None],
    reasons: list[str],
) -> Index:
    """The index of a kind with the least work, or the best so far where that does less."""
    from twinspire_core.search.scann_index import ScannIndex

    vectors = best.vectors
    # As many leaves as items in each, about
    leaves = round(len(vectors) ** 0.5) if kind == "tree" else 0
    for dimensions in _CODES[kind]:
        first = untuned(kind, dimensions, truth.k, leaves)
        rival = best.settings.kind
        what = f"{kind} with codes of {dimensions} dimensions"
        below = work(best.settings, len(vectors))
        if rival == "exact":
            below *= _WORTH
        cheaper = affordable(first, len(vectors), below)
        possible = bool(cheaper)
        # Codes of a tree of the same leaves were tried: they tell what its leaves can hold
        if possible and isinstance(best, ScannIndex) and rival == kind:
            possible = leaves_suffice(best, cheaper, truth, target, tried)
        if not possible:
            reasons.append(f"no settings of {what} can do less work than {rival}")
            continue
        console.print(
            f"index: training a {kind} index of {len(vectors):,} vectors …", highlight=False
        )
        index = ScannIndex.build(vectors, first)
        point = tune(index, truth, target, tried, below)
        if point:
            best = index.with_settings(point.settings)
        else:
            goal = f"reach recall@{truth.k} {target} with less work than {rival}"
            reasons.append(f"no settings of {what} {goal}")
    return best


def _note(tried: list[Point], point: Point) -> None:
    """Keeps a point, and prints it."""
    tried.append(point)
    settings = point.settings
    parts: list[str] = [settings.kind]
    if settings.leaves:
        parts.append(f"{settings.leaves_searched} of {settings.leaves} leaves")
    parts.append(f"{settings.rescored} rescored: recall {point.recall.mean:.4f}")
    console.print(f"index: {', '.join(parts)}", highlight=False)


def _searched_anew(index: Index, kinds: tuple[Kind, ...], why: str) -> SettingsOrigin:
    """Of settings that the index was not given by an earlier version."""
    items = len(index)
    return SettingsOrigin(
        how="tuned",
        version=None,
        why=why,
        searched=None,
        items=items,
        kinds=kinds,
        work=round(work(index.settings, items)),
    )
