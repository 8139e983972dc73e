"""What lies in the folder of a version; docs/artifact-format.md describes each.

JSON files have their names where they are declared: `DayMetrics.FILE`, `FixedOrder.FILE`,
`GateVerdict.FILE`, `IndexFigures.FILE`, and `FILE` of the manifest. Towers are named in
twinspire_core/contracts/model_bundle.py.
"""

VECTORS = "vectors"
"""Folder of the items' vectors, Parquet."""
INDEX = "index"
"""Folder of the index; row i is row i of the items."""
ITEMS = "items.parquet"
"""The corpus: ids, names, popularity, display and filter columns."""
USERS = "users"
"""Folder of users' features, with `serving.user_store`."""
REPORT = "report.html"
"""The page about the version, which is no part of its content."""


def source_table(name: str) -> str:
    """The file of a table that a candidate source is made of, such as `co_occurrence`."""
    return f"{name}.parquet"
