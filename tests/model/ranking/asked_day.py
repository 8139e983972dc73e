"""A made-up day where it is known which source is right."""

from datetime import date

import numpy as np
import pyarrow as pa

from model.evaluation.ranked_lists import RankedLists
from model.ranking.candidate_rows import RankingRows
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.sources.candidate_sources import CandidateSources

TODAY = date(2024, 5, 20)
ITEMS = [f"i{n:03d}" for n in range(400)]
POPULAR = np.arange(400)[::-1]  # events of each item: i000 has most
CORPUS = pa.table({"_item": ITEMS, "_popular": POPULAR, "_lately": POPULAR})


def queries(right: str, events: int, users: int, *, held: bool = False) -> pa.Table:
    """Users whose past is 10 items out of the unpopular half, and who take 3 of what the right
    source lists first: `history`, or any other for what is popular.
    """
    rng = np.random.default_rng(events)
    some = [
        [ITEMS[i] for i in 200 + rng.permutation(200)[:10]] for _ in range(users if events else 0)
    ]
    pasts = some or [[]] * users
    truth = [list(rng.permutation(own if right == "history" else ITEMS[:5])[:3]) for own in pasts]
    strings = pa.list_(pa.string())
    return pa.table(
        {
            "_user": [f"{right}-{events}-{held}-{n}" for n in range(users)],
            "_day": pa.array([TODAY] * users, pa.date32()),
            "_holdout": [held] * users,
            "_truth": pa.array(truth, strings),
            "_past": pa.array(pasts, strings),
            "_past_events": [events] * users,
        }
    )


def by_chance(rows: int) -> RankedLists:
    """What a two-tower lists that knows nothing."""
    rng = np.random.default_rng(9)
    ranked = np.stack([rng.permutation(400)[:100] for _ in range(rows)])
    return RankedLists(ranked, ranked)


def trending(half_life: str) -> CandidateSources:
    """What is taken, i000 to i004, is what trends with a half-life of a day and no other."""
    counts = dict.fromkeys(TRENDING_HALF_LIVES, np.arange(400.0))
    counts["_trending_1d"] = np.arange(400.0)[::-1]
    columns = {name: pa.array(values) for name, values in counts.items()}
    corpus = pa.table({**{name: CORPUS[name] for name in CORPUS.column_names}, **columns})
    return CandidateSources.of(corpus, half_life=half_life)


def ranking_rows(lengths, values, names, taken, day=TODAY, **more) -> RankingRows:
    """Rows of the history's candidates, of known users, each of weight 1, or as said."""
    given = {"sources": ("history",), "by_history": np.zeros(len(lengths), bool)}
    given["weights"] = np.ones(len(values), np.float32)
    values = np.asarray(values, np.float32)
    made = {"lengths": lengths, "values": values, "names": names, "taken": taken}
    return RankingRows(day=day, **made, **(given | more))
