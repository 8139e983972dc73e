"""Tables that are fitted on users' sequences: which source's, and by what."""

from collections.abc import Callable, Mapping

import pyarrow as pa

from twinspire_core.sources import co_visitation, ease, ials, session_neighbours, user_neighbours
from twinspire_core.sources.sequences import Sequences

Fit = Callable[[Sequences, pa.Array], pa.Table]
"""Of sequences as of a moment, and of the ids of the corpus of that moment, ascending."""

FITS: Mapping[str, Fit] = {
    user_neighbours.TABLE: user_neighbours.fit,
    session_neighbours.TABLE: session_neighbours.fit,
    co_visitation.TABLE: co_visitation.fit,
    ease.TABLE: ease.fit,
    ials.TABLE: ials.fit,
}
"""By table of `Source.tables`."""
