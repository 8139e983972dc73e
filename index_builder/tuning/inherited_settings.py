"""An index may take over the settings of an earlier version's, which spares the search for them.

docs/decisions/0007-index.md
"""

from collections.abc import Callable

import numpy as np

from index_builder.tuning.measurement import Truth
from index_builder.tuning.settings_search import Point, measure, step_up, untuned
from twinspire_core.config.tables.deployment import IndexConfig as Wanted
from twinspire_core.contracts.stage_context import Start
from twinspire_core.search.index import Index, Kind, Settings
from twinspire_core.search.stored_index import ExactIndex

CHANGE = 1 / 3
"""What is no small change: of the corpus since the settings were searched for, or of the work that
they are.
"""


def unfit(
    start: Start, vectors: np.ndarray, k: int, kinds: tuple[Kind, ...], wanted: Wanted
) -> str:
    """Why the settings of an earlier version are not tried; empty if they are.

    Args:
      start: the version.
      vectors: [N, D] float32, of today's items.
      k: neighbours asked for.
      kinds: those that suit so many items.
      wanted: `[index]` of the pipeline file.
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
      vectors: [N, D] float32.
      truth: the queries that choose the settings.
      target: recall, in [0, 1].
      start: the version.
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
