"""Names of the candidate sources, and what people are told that they list. Imports nothing heavy:
the pipeline file and `--help` know them.

What they do is in `twinspire_core/sources/`, one module for each; `registry.py` there holds the
classes under these names.
"""

from typing import TYPE_CHECKING, Any, Literal

TWO_TOWER = "two_tower"
PAST = "past"
POPULAR_LATELY = "popular_lately"
MOST_POPULAR = "most_popular"
CO_OCCURRENCE = "co_occurrence"
PERSONAL = "personal"
TRENDING = "trending"
USER_NEIGHBOURS = "user_neighbours"
SESSION_NEIGHBOURS = "session_neighbours"
CO_VISITATION = "co_visitation"
EASE = "ease"
IALS = "ials"
FIXED_ORDER = "fixed_order"
"""No source of its own: several, by fixed weights (twinspire_core/fusion/fixed_order.py)."""
RANKED = "ranked"
"""Nor is this: what these list, in a ranker's order (twinspire_core/ranking/ranker.py)."""

TITLES = {
    TWO_TOWER: "two-tower",
    PAST: "purchase history",
    POPULAR_LATELY: "popular lately",
    MOST_POPULAR: "most popular",
    CO_OCCURRENCE: "bought together",
    PERSONAL: "purchase history, decayed",
    TRENDING: "trending",
    USER_NEIGHBOURS: "taken by like users",
    SESSION_NEIGHBOURS: "taken in like sessions",
    CO_VISITATION: "taken just before, after",
    EASE: "linear model (EASE)",
    IALS: "factorisation (iALS)",
}
"""By name, in the order in which they are shown."""
SOURCE_NAMES = tuple(TITLES)
FITTED = (USER_NEIGHBOURS, SESSION_NEIGHBOURS, CO_VISITATION, EASE, IALS)
"""Sources that are fitted on what each user took, event by event."""
COUNTED_FOR = (PERSONAL, TRENDING, *FITTED)
"""Sources for which the feature job counts more, besides `co_occurrence`, if they are used."""
ANSWERING = (RANKED, FIXED_ORDER, *SOURCE_NAMES)
"""What an answer may come from."""
REMOVED = {"mix": FIXED_ORDER}
"""What answers came from once, and what to write instead."""

if TYPE_CHECKING:
    SourceName = str
    AnswerSource = str
else:
    # A Literal, so that documentation, `--help` and errors list the names.
    SourceName: Any = Literal[SOURCE_NAMES]
    AnswerSource: Any = Literal[ANSWERING]
