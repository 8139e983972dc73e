"""A published version, opened to answer requests: query tower, index, items, candidate sources, ranker, and
users if they are stored.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from index_builder.registry.registry import Registry
from serving.version.filters import Attributes
from serving.version.user_store import UNKNOWN, IdTable, UserStore, Vocabularies
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.source_registry import FIXED_ORDER, RANKED, TWO_TOWER, own_digests
from twinspire_core.contracts import version_manifest
from twinspire_core.contracts.feature_schema import display_name
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.model_bundle import QUERY_TOWER, Tower
from twinspire_core.contracts.ranker_files import FORMAT, MODEL, RankerFile, RankerFormat
from twinspire_core.contracts.version_manifest import Manifest
from twinspire_core.errors import UsageError
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.fusion.reranking import CappedAttribute, CappedValues
from twinspire_core.native_code import load_saved_model, suppress_native_stderr
from twinspire_core.ranking.ranker import Ranker, RankingFeatures
from twinspire_core.search.index import Index, load_index
from twinspire_core.sources.candidate_sources import CandidateSources, read_tables
from twinspire_core.sources.source import Source
from twinspire_core.terminal import doing

log = logging.getLogger("twinspire.serve")


class Version:
    """One version. Each part is loaded when it is first needed and then stays in memory.

    Attributes:
      pipeline: the pipeline file that declares its features.
      home: local folder of its files.
      order_knows_more: whether its fixed order uses live events and the ranker does not. In that case the
        fixed order makes the default lists.
    """

    def __init__(self, pipeline: Pipeline, home: Path, described: Manifest) -> None:
        self.pipeline = pipeline
        self.home = home
        self.manifest = described
        self.order_knows_more = False

    @classmethod
    def open(
        cls, pipeline: Pipeline, version: str | None = None, cache: Path | None = None
    ) -> Self:
        """Opens a version of the pipeline's registry.

        Args:
          version: id, the start of an id, or a day; by default the live version.
          cache: local folder that versions in an object store are downloaded to.

        Raises:
          UsageError: nothing is live, or `version` fits no version or several.
          BadData: its files are damaged.
        """
        home = Registry(pipeline.registry.root, pipeline.name).open(version, cache)
        path = home / version_manifest.FILE
        described = Manifest.parse(path.read_bytes(), str(path))
        _check_own_sources(described)
        return cls(pipeline, home, described)

    @property
    def id(self) -> str:
        """The id, such as 2024-03-02-3b8a8f8e."""
        return self.manifest.version

    @property
    def towers(self) -> str:
        """Id of the version that its towers come from: another one for a refresh."""
        return self.manifest.refreshes or self.id

    @property
    def published(self) -> "Version":
        """This version without the items that came after it (serving/version/live_updates.py)."""
        return self

    def answering(self, source: str) -> "Version":
        """The version that makes a source's lists: with new items, or without them."""
        # Rows of items are the same in both, because new items come after all others.
        return self

    @property
    def exclude_seen(self) -> bool:
        """Whether lists leave out the user's purchase history if a request does not say."""
        # The setting of the version's day, not of today's pipeline file: its ranker was fitted for such lists.
        return bool(self.manifest.settings.get("serving", {}).get("exclude_seen", False))

    def leaves_out_seen(self, asked: bool | None) -> bool:
        """Whether a request's lists leave out the user's purchase history."""
        return self.exclude_seen if asked is None else asked

    @cached_property
    def items(self) -> pa.Table:
        """The corpus: `_item`, `_name`, display and filter columns. Row i is row i of the index."""
        return pq.read_table(self.home / version_manifest.ITEMS).combine_chunks()

    @cached_property
    def ids(self) -> np.ndarray:
        """Item ids by row, [N] objects."""
        # As NumPy objects, because indexing them is faster than Arrow's `take` for short lists.
        return self.items["_item"].to_numpy()

    @cached_property
    def index(self) -> Index:
        """Nearest neighbours among the items' vectors."""
        return load_index(self.home / version_manifest.INDEX)

    @cached_property
    def users(self) -> UserStore | None:
        """The stored users; None without `serving.user_store`."""
        folder = self.home / version_manifest.USERS
        return UserStore(folder) if folder.is_dir() else None

    @cached_property
    def fixed_order(self) -> FixedOrder:
        """The blend of sources that makes lists without a ranker."""
        # If the two-tower is the only source, nothing was fitted, and there is no file
        return FixedOrder.find(self.home) or FixedOrder.of([TWO_TOWER])

    @cached_property
    def candidate_sources(self) -> CandidateSources:
        """All sources but the two-tower."""
        return CandidateSources.of(self.items, read_tables(self.home), self.fixed_order.half_life)

    def put_source(self, source: Source, name: str | None = None) -> None:
        """Replaces the source of this name, or adds one. The next answer uses it.

        Args:
          source: what makes the lists.
          name: needed where the source itself has no name.
        """
        name = name or source.name
        # A new mapping: threads that are making an answer go on with the one that they have taken.
        by_name = {**self.candidate_sources.by_name, name: source}
        self.candidate_sources = replace(self.candidate_sources, by_name=by_name)
        if name not in self.sources:
            self.sources = [*self.sources, name]

    @cached_property
    def ranking_features(self) -> RankingFeatures:
        """What computes the features that candidates are ranked by."""
        return RankingFeatures.of(self.candidate_sources.tables)

    @cached_property
    def _second_stage(self) -> "_SecondStage":
        return _SecondStage.read(self)

    @property
    def ranker(self) -> Ranker | None:
        """The ranker; None if the version carries none that this release can use."""
        return self._second_stage.ranker

    @property
    def warnings(self) -> list[str]:
        """Parts of the version that this release cannot use, and what answers instead."""
        problem = self._second_stage.problem
        return [problem] if problem else []

    @cached_property
    def sources(self) -> list[str]:
        """Names of the sources that a request may ask for."""
        sources = [TWO_TOWER]
        if self.ranker:
            sources.append(RANKED)
        return [*sources, FIXED_ORDER, *self.candidate_sources.without_model]

    def sources_of(self, source: str) -> Sequence[str]:
        """The candidate sources that a source's lists are made of: several for the ranker and the
        fixed order, itself for any other.
        """
        if source == RANKED:
            return self.ranker.sources if self.ranker else ()
        if source == FIXED_ORDER:
            return self.fixed_order.sources
        return (source,)

    def choose_source(self, source: str | None) -> str:
        """The source that makes the lists: the one that a request asks for, or the version's default.

        The default is the ranker if the gate lets it serve and the fixed order does not know newer
        events; else the fixed order; else the two-tower, where the fixed order uses nothing else.

        Raises:
          UsageError: the version has no such source.
        """
        if source is None:
            if self._second_stage.serves and not self.order_knows_more:
                return RANKED
            return TWO_TOWER if self.fixed_order.sources == (TWO_TOWER,) else FIXED_ORDER
        if source not in self.sources:
            raise UsageError(
                f"Version {self.id} has the sources {', '.join(self.sources)}, but no {source!r}. Name"
                " one of these, or add the source to sources.use and publish a version."
            )
        return source

    @cached_property
    def attributes(self) -> Attributes:
        """The attributes that requests may filter by."""
        return Attributes(self.items, self.id)

    @cached_property
    def capped_values(self) -> tuple[CappedValues | None, Sequence[str]]:
        """The values that the caps of the pipeline file count, and warnings about caps that cannot be
        applied.
        """
        attributes: list[CappedAttribute] = []
        warnings: list[str] = []
        for name, cap in self.pipeline.lists.caps.items():
            try:
                attributes.append(CappedAttribute(*self.attributes.entries(name), cap))
            # A cap that cannot be applied is only a warning, because the list is still useful.
            except ValueError as e:
                warnings.append(f"a cap {e}")
        values = CappedValues.of(attributes, len(self.items)) if attributes else None
        return values, warnings

    @cached_property
    def vocabularies(self) -> Vocabularies:
        """The values of category features that the query tower was trained with."""
        return Vocabularies(self.pipeline, self.home / QUERY_TOWER, self.id)

    @cached_property
    def _tower(self) -> Tower:
        # TensorFlow writes a page of notices to standard error when it is imported.
        with (
            doing("loading TensorFlow and the query tower"),
            suppress_native_stderr(),
        ):
            return Tower(load_saved_model(str(self.home / QUERY_TOWER)))

    @cached_property
    def _rows_of_taken(self) -> np.ndarray:
        """Rows of the distinct items in stored histories. A last entry of -1 is for missing ids."""
        taken = self.users.taken if self.users else pa.array([], pa.string())
        return np.append(self.rows(taken), np.int32(UNKNOWN))

    @cached_property
    def _rows(self) -> IdTable:
        return IdTable(self.items["_item"])

    def encode(self, queries: pa.Table) -> np.ndarray:
        """Unit vectors of raw query features by the query tower, [N, D] float32. Columns that are
        not there count as missing values.
        """
        return self._tower(queries)

    def rows(self, ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> np.ndarray:
        """Rows of items by id, [N] int32; -1 for those outside the corpus.

        Args:
          ids: item ids, or a dictionary array of the distinct ids in `UserStore.taken`.
        """
        if isinstance(ids, pa.DictionaryArray):
            number = ids.indices
            # A missing id becomes -1, which reads the last entry.
            if number.null_count:
                number = number.fill_null(-1)
            return self._rows_of_taken[number.to_numpy()]
        if not isinstance(ids, pa.Array | pa.ChunkedArray):
            ids = list(ids)
        return self._rows.rows(ids)

    def describe(self, rows: np.ndarray | Sequence[int]) -> list[dict[str, str | None]]:
        """The display columns of items: `item`, `name`, and other columns by their names."""
        columns = {"item": "_item", "name": "_name"}  # `_name` is the first display column
        for name in self.pipeline.corpus.display[1:]:
            columns[name] = display_name(name)
        items = self.items.take(np.asarray(rows, np.int64))
        texts = {
            shown: items[column].to_pylist()
            for shown, column in columns.items()
            if column in items.column_names
        }
        return [
            dict(zip(texts, values, strict=True)) for values in zip(*texts.values(), strict=True)
        ]

    def describe_ids(self, items: Sequence[str]) -> list[dict[str, str | None]]:
        """Like `describe`, by item ids. Items that left the catalogue have only an id."""
        rows = self.rows(items)
        described = iter(self.describe(rows[rows >= 0]))
        return [
            next(described) if row >= 0 else {"item": item}
            for item, row in zip(items, rows, strict=True)
        ]


def _check_own_sources(described: Manifest) -> None:
    """Checks that the files of the user's own sources are the same as when the version was made.

    Raises:
      UsageError: a file is missing, or has other content.
    """
    # A version is data: its copy of a file is compared, but never imported.
    for path, file in described.files.items():
        name = path.removesuffix(".py")
        if name != path and own_digests((name,)) != {name: file.sha256}:
            raise UsageError(
                f"A version must be served with the source files that it was made with; {described.version}"
                f" needs {path}, which is not in the folder of the pipeline file. Put that file there, and"
                " name it in sources.use. The version contains a copy of it."
            )


class _SecondStage(NamedTuple):
    """The ranker of a version.

    Attributes:
      ranker: None if the version has none that this release can use.
      serves: whether the gate lets it make the default lists.
      problem: why it cannot be used; None if nothing is wrong.
    """

    ranker: Ranker | None = None
    serves: bool = False
    problem: str | None = None

    @classmethod
    def read(cls, version: Version) -> Self:
        """Reads the ranker's files. If they cannot be used, the reason is logged once."""
        home = version.home
        path = home / RankerFile.FILE
        if not path.exists():
            return cls()
        described = path.read_bytes()
        written = RankerFormat.parse(described).format
        if written != FORMAT:
            return cls._unusable(
                home.name,
                f"{RankerFile.FILE} is of format {written}, and this release reads format {FORMAT}:"
                " serve it with the release that wrote it",
            )
        ranker = Ranker.parse((home / MODEL).read_bytes(), described)
        lacking = ranker.lacking(version.ranking_features, version.candidate_sources)
        if lacking:
            return cls._unusable(
                home.name,
                f"it uses {', '.join(lacking)}, which cannot be made from the version: serve it"
                " with the release that wrote it, or publish a new version",
            )
        verdict = GateVerdict.find(home)
        return cls(ranker, serves=verdict is not None and verdict.serves == RANKED)

    @classmethod
    def _unusable(cls, version: str, why: str) -> Self:
        problem = f"The ranker of {version} is not used: {why}. Its fixed order answers instead."
        log.warning("%s", problem)
        return cls(problem=problem)
