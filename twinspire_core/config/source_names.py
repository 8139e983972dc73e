"""Names of the candidate sources, and what people are told that they list. Imports nothing heavy:
the pipeline file and `--help` know them.

What they do is in `twinspire_core/sources/`, one module for each; `registry.py` there holds the
classes under these names.
"""

from typing import TYPE_CHECKING, Any, Literal

TWO_TOWER = "two_tower"
HISTORY = "history"
POPULAR = "popular"
CO_OCCURRENCE = "co_occurrence"
NEIGHBOURS = "neighbours"
FACTORS = "factors"
FIXED_ORDER = "fixed_order"
"""No source of its own: several, by fixed weights (twinspire_core/fusion/rank_fusion.py)."""
RANKED = "ranked"
"""Nor is this: what these list, in a ranker's order (twinspire_core/ranking/ranker.py)."""

TITLES = {
    TWO_TOWER: "two-tower",
    HISTORY: "purchase history",
    POPULAR: "popular",
    CO_OCCURRENCE: "bought together",
    NEIGHBOURS: "taken by similar users",
    FACTORS: "factorisation (iALS)",
}
"""By name, in the order in which they are shown."""
SOURCE_NAMES = tuple(TITLES)
MOST_POPULAR = "most_popular"
POPULAR_LATELY = "popular_lately"
PURCHASE_HISTORY = "purchase_history"
BASELINE_TITLES = {
    MOST_POPULAR: "most popular",
    POPULAR_LATELY: "popular lately",
    PURCHASE_HISTORY: "past purchases",
}
"""By name, plain lists that evaluation compares with. They are no sources."""
BASELINES = tuple(BASELINE_TITLES)
ANSWERING = (RANKED, FIXED_ORDER, *SOURCE_NAMES)
"""What an answer may come from."""
REMOVED = {
    "mix": FIXED_ORDER,
    "past": HISTORY,
    "personal": HISTORY,
    "most_popular": POPULAR,
    "popular_lately": POPULAR,
    "trending": POPULAR,
    "co_visitation": CO_OCCURRENCE,
    "user_neighbours": NEIGHBOURS,
    "session_neighbours": NEIGHBOURS,
    "ease": FACTORS,
    "ials": FACTORS,
}
"""What answers came from once, and what to write instead."""

if TYPE_CHECKING:
    SourceName = str
    AnswerSource = str
else:
    # A Literal, so that documentation, `--help` and errors list the names.
    SourceName: Any = Literal[SOURCE_NAMES]
    AnswerSource: Any = Literal[ANSWERING]
