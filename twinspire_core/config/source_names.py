"""All candidate sources: their names, their titles on screen, and where their classes are. And the lists
that evaluation compares with.

Imports nothing heavy, as the pipeline file and `--help` list the names: the classes, in
`twinspire_core/sources/`, are imported by `candidate_sources.py` there.
"""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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


class SourceEntry(NamedTuple):
    """What is known of a source before its module is imported.

    Attributes:
      title: its name on screen.
      path: of its class.
      is_fitted: whether it is fitted on users' event sequences (`Source.fits`).
    """

    title: str
    path: str
    is_fitted: bool = False


_PACKAGE = "twinspire_core.sources"
ENTRIES = {
    TWO_TOWER: SourceEntry("two-tower", f"{_PACKAGE}.candidate_sources:TwoTower"),
    HISTORY: SourceEntry("purchase history", f"{_PACKAGE}.history:History"),
    POPULAR: SourceEntry("popular", f"{_PACKAGE}.popular:Popular"),
    CO_OCCURRENCE: SourceEntry("bought together", f"{_PACKAGE}.co_occurrence:CoOccurrence", True),
    NEIGHBOURS: SourceEntry("taken by similar users", f"{_PACKAGE}.neighbours:Neighbours", True),
    FACTORS: SourceEntry("factorisation (iALS)", f"{_PACKAGE}.factors:Factors", True),
}
"""By name, in the order in which they are shown. A new source is a module, and a line here."""
TITLES = {name: entry.title for name, entry in ENTRIES.items()}
SOURCE_NAMES = tuple(ENTRIES)
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
