"""Lists of a mix, and of co-occurrence alone, for the queries of a split."""

import numpy as np

from model.evaluate import Ranked
from model.mix import DEPTH, Mix, fuse, pool
from model.nominators import CO_OCCURRENCE, Nominators
from model.split import Split

_CHUNK = 2048


def rank_mix(mix: Mix, nominators: Nominators, split: Split, two_tower: Ranked, k: int) -> Ranked:
    """The lists of a mix.

    Args:
      mix: its weights.
      nominators: of the catalogue.
      split: the queries.
      two_tower: [U, L] its lists, at least `DEPTH` long.
      k: length of the lists.
    """
    kept = _fused(mix, nominators, split, two_tower.kept, k, exclude=False)
    fresh = two_tower.excluded
    return Ranked(kept, _fused(mix, nominators, split, fresh, k, exclude=True) if fresh is not None else None)


def rank_together(nominators: Nominators, split: Split, k: int) -> Ranked:
    """The lists of co-occurrence alone."""
    kept, fresh = (nominators.alone(CO_OCCURRENCE, split.past, k, exclude=x) for x in (None, split.past))
    return Ranked(kept, fresh)


def _fused(
    mix: Mix, nominators: Nominators, split: Split, two_tower: np.ndarray, k: int, *, exclude: bool
) -> np.ndarray:
    ranked, weights = np.full((len(two_tower), k), -1, np.int64), mix.of(split.past_events)
    for start in range(0, len(ranked), _CHUNK):
        part = slice(start, min(start + _CHUNK, len(ranked)))
        past = split.past.part(part.start, part.stop)
        without = past if exclude else None
        lists = nominators.nominate(mix.sources, past, max(k, DEPTH), two_tower=two_tower[part], exclude=without)
        fused = fuse(pool([lists[name] for name in mix.sources]), weights[part], k)
        ranked[part] = nominators.filled(fused.items, k, exclude=without)
    return ranked
