"""Names of the candidate sources and of the lists that evaluation compares with, and their titles on
screen. Imports nothing heavy, as the pipeline file and `--help` list the names.

The sources are in `twinspire_core/sources/`, most in a module each; `candidate_sources.py` there has
the two-tower, and all classes by these names.
"""

from typing import TYPE_CHECKING, Any, Literal

TWO_TOWER = "two_tower"
HISTORY = "history"
POPULAR = "popular"
CO_OCCURRENCE = "co_occurrence"
NEIGHBOURS = "neighbours"
FACTORS = "factors"
FIXED_ORDER = "fixed_order"
"""Not a source: several sources by fixed weights (twinspire_core/fusion/rank_fusion.py)."""
RANKED = "ranked"
"""Not a source: items of several sources in a ranker's order (twinspire_core/ranking/ranker.py)."""

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
"""By name, simple lists that evaluation compares with. They are not sources."""
BASELINES = tuple(BASELINE_TITLES)
ANSWERING = (RANKED, FIXED_ORDER, *SOURCE_NAMES)
"""Sources of an answer."""
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
"""Former sources of an answer, and what to write instead."""

if TYPE_CHECKING:
    SourceName = str
    AnswerSource = str
else:
    # Literals, so that documentation, `--help` and errors list the names.
    SourceName: Any = Literal[SOURCE_NAMES]
    AnswerSource: Any = Literal[ANSWERING]
