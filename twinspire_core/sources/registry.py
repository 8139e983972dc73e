"""All candidate sources, by name: a new one has a module of its own and a line here.

two_tower      by the vectors
history        what the user took before, by decayed counts
popular        what everybody takes, by decayed counts
co_occurrence  what others took with, just before or just after what the user took last
neighbours     what users took who took the same
factors        by the factors of a matrix factorisation
"""

from collections.abc import Collection

from twinspire_core.config.source_names import SOURCE_NAMES
from twinspire_core.sources.co_occurrence import CoOccurrence
from twinspire_core.sources.factors import Factors
from twinspire_core.sources.history import History
from twinspire_core.sources.neighbours import Neighbours
from twinspire_core.sources.popular import Popular
from twinspire_core.sources.source import Fit, Source
from twinspire_core.sources.two_tower import TwoTower

_CLASSES: tuple[type[Source], ...] = (
    TwoTower,
    History,
    Popular,
    CoOccurrence,
    Neighbours,
    Factors,
)

_BY_NAME = {source.name: source for source in _CLASSES}
SOURCES: dict[str, type[Source]] = {name: _BY_NAME[name] for name in SOURCE_NAMES}
"""By name, in the order of twinspire_core/config/source_names.py."""


def fits_of(names: Collection[str]) -> dict[str, Fit]:
    """The tables that some sources are made of besides the corpus, by name, and what makes them."""
    return {table: fit for name in names for table, fit in SOURCES[name].fits.items()}


def depth_of(name: str) -> int:
    """How many items of a source's list a ranker looks at."""
    return SOURCES[name].depth if name in SOURCES else Source.depth
