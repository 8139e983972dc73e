"""A published version, the artifact: the names of its files, and its manifest.

docs/artifact-format.md describes them. JSON files have their names where they are declared:
`DayMetrics.FILE`, `FixedOrder.FILE`, `GateVerdict.FILE`, `IndexFigures.FILE`. model_bundle.py names the
towers, ranker_files.py the ranker.
"""

import datetime
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from twinspire_core.contracts.gate_verdict import GateFigures
from twinspire_core.errors import BadData

VECTORS = "vectors"
"""Folder of the items' vectors, Parquet."""
INDEX = "index"
"""Folder of the index; row i is row i of the items."""
ITEMS = "items.parquet"
"""The corpus: ids, names, popularity, columns for display and for filters."""
USERS = "users"
"""Folder of users' features, with `serving.user_store`."""
REPORT = "report.html"
"""The page about the version; the version's id does not depend on it."""
FILE = "manifest.json"
FORMAT_VERSION = 2
_EDITIONS = 100  # how often the same content may be pruned and published again
COUNTING = (
    "columns.user",
    "columns.item",
    "columns.event",
    "columns.positives",
    "window.history_days",
    "corpus.filter",
    "corpus.days",
    "corpus.unlisted",
    "serving.exclude_seen",
)
"""Settings that change what a measure means: whose queries, which events count, among which items, in
which lists, and what the simple lists are. Figures measured with different ones cannot be compared.
"""


def source_table(name: str) -> str:
    """The file of a table that a candidate source is made of, such as `co_occurrence`."""
    return f"{name}.parquet"


def own_source(name: str) -> str:
    """The file with the code of a source of the user's own."""
    return f"{name}.py"


class File(BaseModel):
    """A file of the version: the SHA-256 of its content in hex, and its size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int


class Manifest(BaseModel):
    """Describes one version.

    Attributes:
      format_version: of the artifact format; whatever answers or trains by a version refuses others.
      pipeline: name of the recommender.
      date: the day it was trained up to.
      version: `<date>-<first 8 hex of a digest of the pipeline's name, the date and the files but
        the report>`.
      parent: the version it was warm-started from, or None.
      refreshes: the version whose towers it has, where it was not trained itself.
      corpus_date: the day of its catalogue, where that is not `date`.
      files: every file but the manifest, by path.
      settings: the pipeline file by table, without places.
      quality: the figures that the gate judged.
      items: size of the corpus.
      dimension: width of the vectors.
      sources: name of the working files it was made from, by stage (`dt=D/<stage>/<attempt>`).
      software: versions of the libraries that made it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    pipeline: str
    date: datetime.date
    version: str
    parent: str | None = None
    refreshes: str | None = None
    corpus_date: datetime.date | None = None
    files: dict[str, File]
    settings: dict[str, Any] = {}
    quality: GateFigures = GateFigures()
    items: int
    dimension: int
    sources: dict[str, str] = {}
    software: dict[str, str] = {}

    @classmethod
    def create(
        cls,
        *,
        pipeline: str,
        day: datetime.date,
        files: Mapping[str, File],
        edition: int = 1,
        **fields: Any,
    ) -> Self:
        """A manifest whose version id is derived from the content.

        Args:
          files: every file but the manifest, by path; the report does not change the id.
          edition: more than 1 gives the same content another id, where the first was pruned.
          fields: all fields that are not named here.
        """
        version = _id_of(pipeline, day, files, edition)
        return cls(pipeline=pipeline, date=day, version=version, files=dict(files), **fields)

    def has_own_id(self) -> bool:
        """Whether the id follows from the content."""
        # The edition is stored nowhere, so all are tried.
        content = (self.pipeline, self.date, self.files)
        return any(self.version == _id_of(*content, n + 1) for n in range(_EDITIONS))

    def check_format(self) -> None:
        """Checks that this release can answer by the version.

        Raises:
          BadData: it is of an older format.
        """
        if self.format_version < FORMAT_VERSION:
            raise BadData(
                f"This release can only serve versions of format {FORMAT_VERSION}; {self.version} has"
                f" format {self.format_version}. An older release made it. Run its day again:"
                f" twinspire run PIPELINE --date {self.date} --force"
            )

    @classmethod
    def parse(cls, data: bytes, where: str) -> Self:
        """Reads a manifest, also of an older format: such versions can still be listed, pruned and trained
        on from (`check_format`). `where` names it in errors.

        Raises:
          BadData: it is no manifest, or of a newer format.
        """
        try:
            fields = json.loads(data)
            newer = fields.get("format_version", 0) > FORMAT_VERSION
        except (ValueError, AttributeError, TypeError) as e:
            raise BadData(
                f"A manifest must be a JSON object; {where} is not: {e}. The version is damaged."
                " Roll back."
            ) from e
        if newer:
            raise BadData(
                f"This release can read formats up to {FORMAT_VERSION}; {where} has format"
                f" {fields['format_version']}. A newer release made it. Upgrade Twinspire."
            )
        try:
            return cls.model_validate(fields)
        except ValidationError as e:
            raise BadData(
                f"A manifest must have the fields of its format; {where} does not: {e}. Roll back."
            ) from e

    def dump(self) -> bytes:
        """The manifest as JSON."""
        return self.model_dump_json(indent=1).encode()


def counts_otherwise(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """The settings of `COUNTING` in which two manifests' settings differ, with both values."""
    different = {}
    for path in COUNTING:
        table, _, name = path.partition(".")
        old, new = (settings.get(table, {}).get(name) for settings in (before, after))
        if old != new:
            different[path] = (old, new)
    return different


def _id_of(pipeline: str, day: datetime.date, files: Mapping[str, File], edition: int) -> str:
    """The id of a version: its day, and a digest of its files without the report."""
    # Without the report, which shows earlier versions too: the same content has the same id.
    digests = [(path, files[path].sha256) for path in sorted(files) if path != REPORT]
    named: list[Any] = [pipeline, str(day), digests]
    content = json.dumps(named if edition == 1 else [*named, edition])
    return f"{day}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def is_id(text: str) -> bool:
    """Whether a text has the form of a version's id."""
    # Nothing else may become part of a path: ids come from requests too.
    return re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9a-f]{8}", text) is not None
