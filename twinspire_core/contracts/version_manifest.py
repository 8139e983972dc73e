"""A published version, the artifact: the names of its files, its manifest, and the settings, recall and speed
of its index.

docs/artifact-format.md describes them. Names of JSON files are declared with their models: `DayMetrics.FILE`,
`FixedOrder.FILE`, `GateVerdict.FILE`, `IndexFigures.FILE`. model_bundle.py names the towers, ranker_files.py
the ranker.

`index.json` lies in an index attempt and in a version, `timings.json` in the attempt.
"""

import datetime
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from twinspire_core.contracts.gate_verdict import GateFigures
from twinspire_core.contracts.json_files import JsonFile, JsonPart, Timings
from twinspire_core.errors import BadData
from twinspire_core.search.index_settings import Kind, Settings

VECTORS = "vectors"
"""Folder of the items' vectors, Parquet."""
INDEX = "index"
"""Folder of the index; row i is row i of the items."""
ITEMS = "items.parquet"
"""The corpus: ids, names, popularity, columns for display and for filters."""
USERS = "users"
"""Folder of users' features, with `serving.user_store`."""
REPORT = "report.html"
"""The report of the version; the version's id does not depend on it."""
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
"""Settings that change the meaning of a measure: the users, the events that count, the items, the kind of
lists, and the simple lists. Figures measured with different settings cannot be compared.
"""


def source_table(name: str) -> str:
    """The file of a candidate source's table, such as `co_occurrence`."""
    return f"{name}.parquet"


class File(BaseModel):
    """A file of the version: the SHA-256 of its content in hex, and its size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size: int


class Manifest(BaseModel):
    """Describes one version.

    Attributes:
      format_version: of the artifact format. Serving and training refuse versions of other formats.
      pipeline: name of the recommender.
      date: the day it was trained up to.
      version: `<date>-<first 8 hex of a digest of the pipeline's name, the date and the files but
        the report>`.
      parent: the version it was warm-started from, or None.
      refreshes: for a refresh, the version that its towers come from.
      corpus_date: the day of its catalogue, if that is not `date`.
      files: every file but the manifest, by path.
      settings: the pipeline file by table, without paths.
      quality: the figures of the gate.
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
          edition: a number above 1 gives the same content another id, if the first version was pruned.
          fields: all other fields.
        """
        version = _id_of(pipeline, day, files, edition)
        return cls(pipeline=pipeline, date=day, version=version, files=dict(files), **fields)

    def has_own_id(self) -> bool:
        """Whether the id follows from the content."""
        # The edition is not stored, so all editions are tried.
        content = (self.pipeline, self.date, self.files)
        return any(self.version == _id_of(*content, n + 1) for n in range(_EDITIONS))

    def check_format(self) -> None:
        """Checks that this release can serve the version.

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
        """Reads a manifest, also of an older format: such versions can still be listed and pruned, and
        training can start from them (`check_format`). `where` names it in errors.

        Raises:
          BadData: it is not a manifest, or its format is newer.
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
    # Without the report, which also shows earlier versions. So the same content has the same id.
    digests = [(path, files[path].sha256) for path in sorted(files) if path != REPORT]
    named: list[Any] = [pipeline, str(day), digests]
    content = json.dumps(named if edition == 1 else [*named, edition])
    return f"{day}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def is_id(text: str) -> bool:
    """Whether a text has the form of a version's id."""
    # No other text may become part of a path, because ids also come from requests.
    return re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9a-f]{8}", text) is not None


@dataclass(frozen=True, kw_only=True)
class TriedSettings(Settings):
    """Settings that were measured on the tuning queries.

    Attributes:
      recall: share of the exact neighbours that they find.
      work: cost of a query, in scans of one code.
    """

    recall: float
    work: int


class SettingsOrigin(JsonPart):
    """The origin of an index's settings.

    Attributes:
      how: `inherited` unchanged, or `tuned`.
      version: the version whose settings were taken over or tuned; None after a new search.
      why: why they were tuned; empty if they were not.
      searched: ISO date of the last search over all kinds.
      items: size of the corpus at that search.
      kinds: the kinds that this search compared; empty if none was suitable.
      work: cost of a query then, in scans of one code.
    """

    how: Literal["inherited", "tuned"]
    version: str | None = None
    why: str = ""
    searched: str | None = None
    items: int
    kinds: tuple[Kind, ...]
    work: int


class SampledQueries(JsonPart):
    """The query vectors that an index was tuned and measured on.

    Attributes:
      tuning: number of queries that chose the settings.
      measuring: number of other queries, which measured the index.
      source: where the vectors are from, in words.
    """

    tuning: int
    measuring: int
    source: str


class IndexFigures(JsonFile):
    """The file.

    Attributes:
      kind: of the index.
      items: size of the corpus.
      dimension: width of the vectors.
      k: number of neighbours by which recall is measured.
      recall: share of the exact neighbours that it finds, on queries that it was not tuned on.
      recall_error: standard error of that.
      recall_target: `index.recall_target` of the pipeline file.
      settings: how it searches.
      reasons: why this kind was chosen.
      tuning: the origin of its settings.
      queries: the queries for tuning and measuring.
      tried: settings that were measured on the tuning queries, in the order of trying.
    """

    FILE: ClassVar[str] = "index.json"

    kind: Kind
    items: int
    dimension: int
    k: int
    recall: float
    recall_error: float
    recall_target: float
    settings: Settings
    reasons: Sequence[str]
    tuning: SettingsOrigin
    queries: SampledQueries
    tried: Sequence[TriedSettings]


class IndexTimings(Timings):
    """`timings.json` of the index stage, on the machine that built the index.

    Attributes:
      batch_queries_per_s: queries searched in batches.
      exact_queries_per_s: queries compared with all items, in batches.
      single_ms_median, single_ms_p99: of queries searched one by one.
    """

    batch_queries_per_s: float
    exact_queries_per_s: float
    single_ms_median: float
    single_ms_p99: float
