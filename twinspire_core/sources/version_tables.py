"""What candidate sources of a published version are made of, besides its items."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from twinspire_core.config.source_names import SOURCE_NAMES
from twinspire_core.contracts import artifact
from twinspire_core.sources.registry import fits_of


def read_tables(home: Path) -> dict[str, pa.Table]:
    """Tables by name, of the sources that the version has.

    Args:
      home: local folder of the version.
    """
    places = {name: home / artifact.source_table(name) for name in fits_of(SOURCE_NAMES)}
    return {name: pq.read_table(place) for name, place in places.items() if place.exists()}
