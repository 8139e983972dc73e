"""All candidate sources: their names, their titles on screen, and the paths of their classes; also the simple
lists that evaluation compares with.

The pipeline file and `--help` list the names, so this module imports no large library.
`twinspire_core/sources/candidate_sources.py` imports the classes.
"""

import functools
import hashlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

from twinspire_core.errors import UsageError

TWO_TOWER = "two_tower"
HISTORY = "history"
POPULAR = "popular"
CO_OCCURRENCE = "co_occurrence"
NEIGHBOURS = "neighbours"
FIXED_ORDER = "fixed_order"
"""Not a source: several sources by fixed weights (twinspire_core/fusion/rank_fusion.py)."""
RANKED = "ranked"
"""Not a source: items of several sources in a ranker's order (twinspire_core/ranking/ranker.py)."""


class SourceEntry(NamedTuple):
    """Facts about a source that are known before its module is imported.

    Attributes:
      title: its name on screen.
      path: import path of its class; for a user-defined source, the path of its file.
      is_fitted: whether it is fitted on users' event sequences (`Source.fits`).
      digest: `sha256` of the file of a user-defined source.
    """

    title: str
    path: str
    is_fitted: bool = False
    digest: str = ""

    def load(self) -> Any:
        """Imports the class.

        Raises:
          UsageError: the file of a user-defined source cannot be imported, or does not define exactly one
          source of that name.
        """
        if not self.digest:
            return pkgutil.resolve_name(self.path)
        return _own_class(self.path, self.digest)


_PACKAGE = "twinspire_core.sources"
ENTRIES = {
    TWO_TOWER: SourceEntry("two-tower", f"{_PACKAGE}.candidate_sources:TwoTower"),
    HISTORY: SourceEntry("purchase history", f"{_PACKAGE}.popular_and_history:History"),
    POPULAR: SourceEntry("popular", f"{_PACKAGE}.popular_and_history:Popular"),
    CO_OCCURRENCE: SourceEntry("bought together", f"{_PACKAGE}.co_occurrence:CoOccurrence", True),
    NEIGHBOURS: SourceEntry("bought by similar users", f"{_PACKAGE}.neighbours:Neighbours", True),
}
"""The sources by name, in the order in which they are shown. To add a source, write a module and add it
here.
"""
SOURCE_NAMES = tuple(ENTRIES)
"""The built-in sources."""
MOST_POPULAR = "most_popular"
POPULAR_LATELY = "popular_lately"
PURCHASE_HISTORY = "purchase_history"
BASELINE_TITLES = {
    MOST_POPULAR: "most popular",
    POPULAR_LATELY: "popular lately",
    PURCHASE_HISTORY: "past purchases",
}
"""The simple lists that evaluation compares with, by name. They are not sources."""
BASELINES = tuple(BASELINE_TITLES)


def answering() -> tuple[str, ...]:
    """The possible sources of an answer, including user-defined ones."""
    return (RANKED, FIXED_ORDER, *ENTRIES)


def add_own(file: str) -> str:
    """Registers a user-defined source. Returns its name, which is the file's name.

    Raises:
      UsageError: the file cannot be read or imported, or the project's lists have its name.
    """
    path = Path(file)
    if path.stem in (RANKED, FIXED_ORDER, *SOURCE_NAMES, *BASELINES):
        raise UsageError(
            f"A file in sources.use must not have the name of a built-in list; {path} has the"
            f" name of {path.stem!r}. Rename the file."
        )
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as e:
        raise UsageError(
            f"A file in sources.use must be next to the pipeline file; {path} cannot be read:"
            f" {e.strerror}. Put the file there, or correct its name."
        ) from e
    entry = SourceEntry(path.stem.replace("_", " "), file, digest=digest)
    ENTRIES[path.stem] = entry._replace(is_fitted=bool(entry.load().fits))
    return path.stem


def own_digests(names: tuple[str, ...]) -> dict[str, str]:
    """The digests of the user-defined sources among these names."""
    digests = {name: ENTRIES[name].digest for name in names if name in ENTRIES}
    return {name: digest for name, digest in digests.items() if digest}


@functools.cache
def _own_class(file: str, digest: str) -> Any:
    """The source in a file, imported by its path, once for each content of the file."""
    name = Path(file).stem
    # The name contains the digest, so that it replaces no other module and no earlier content of the file.
    spec = importlib.util.spec_from_file_location(f"{name}_{digest[:8]}", file)
    assert spec and spec.loader, "a file that ends in .py"
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise UsageError(
            f"A file in sources.use must be importable; {file} is not: {type(e).__name__}: {e}."
            " Correct the file."
        ) from e
    kinds = [x for x in vars(module).values() if isinstance(x, type)]
    classes = [kind for kind in kinds if vars(kind).get("name") == name and hasattr(kind, "fits")]
    if len(classes) != 1:
        raise UsageError(
            f"A file in sources.use must define one Source with name = {name!r}; {file} defines"
            f" {len(classes)}. docs/guide/sources.md has an example."
        )
    return classes[0]
