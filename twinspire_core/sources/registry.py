"""All candidate sources, by name: a new one has a module of its own and a line here.

two_tower        by the vectors
past             what the user had before, the most frequent first, then the most recent
popular_lately   by events of the last day
most_popular     by events in the count window
co_occurrence    the items nearest to what the user had before: their similarities to it, added up
personal         what the user had before in a window of its own, by decayed counts
trending         by decayed counts of all events
user_neighbours  what users took who took the same, and the user's own past
session_neighbours  what others took in sessions that hold what the user took last
co_visitation    the items that others took just before or after what the user took last
ease             what a linear model says that goes with the past, item by item
ials             by the factors of a matrix factorisation
"""

from collections.abc import Collection

from twinspire_core.config.source_names import SOURCE_NAMES
from twinspire_core.sources.co_occurrence import CoOccurrence
from twinspire_core.sources.co_visitation import CoVisitation
from twinspire_core.sources.ease import Ease
from twinspire_core.sources.ials import Ials
from twinspire_core.sources.past import Past
from twinspire_core.sources.personal import Personal
from twinspire_core.sources.popularity import MostPopular, PopularLately
from twinspire_core.sources.session_neighbours import SessionNeighbours
from twinspire_core.sources.source import Source
from twinspire_core.sources.trending import Trending
from twinspire_core.sources.two_tower import TwoTower
from twinspire_core.sources.user_neighbours import UserNeighbours

_CLASSES: tuple[type[Source], ...] = (
    TwoTower,
    Past,
    PopularLately,
    MostPopular,
    CoOccurrence,
    Personal,
    Trending,
    UserNeighbours,
    SessionNeighbours,
    CoVisitation,
    Ease,
    Ials,
)

_BY_NAME = {source.name: source for source in _CLASSES}
SOURCES: dict[str, type[Source]] = {name: _BY_NAME[name] for name in SOURCE_NAMES}
"""By name, in the order of twinspire_core/config/source_names.py."""


def tables_of(names: Collection[str]) -> list[str]:
    """The tables that some sources are made of besides the corpus, each once."""
    tables = [table for name in names for table in SOURCES[name].tables]
    return list(dict.fromkeys(tables))
