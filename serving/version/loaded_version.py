"""A published version, opened for answering: towers, index, items and, where it carries them,
users.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from index_builder.registry.registry import Registry
from serving.version.attributes import Attributes
from serving.version.known_values import Vocabularies
from serving.version.second_stage import SecondStage, read_second_stage
from serving.version.user_store import UNKNOWN, IdTable, UserStore
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.source_names import FIXED_ORDER, RANKED, TWO_TOWER
from twinspire_core.contracts import artifact
from twinspire_core.contracts.artifact import Manifest
from twinspire_core.contracts.feature_schema import display_name
from twinspire_core.contracts.model_bundle import QUERY_TOWER, Tower
from twinspire_core.errors import BadData, UsageError
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.library_loading import load_saved_model, suppress_native_stderr
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.ranking.ranking_features import RankingFeatures
from twinspire_core.search.index import Index, load_index
from twinspire_core.sources.candidate_sources import CandidateSources, read_tables
from twinspire_core.sources.source import Source
from twinspire_core.terminal import doing


class Version:
    """One version. Its parts are loaded when they are first needed and then kept.

    Attributes:
      pipeline: what its features are.
      home: local folder of its files.
      manifest: what it says of itself.
      order_knows_more: whether its fixed order uses what is taken just now, of which its ranker
        knows nothing.
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
          pipeline: whose.
          version: its id, a beginning of it, or its day; by default the live one.
          cache: where versions on `gs://` are downloaded to.

        Raises:
          UsageError: nothing is live, or the name fits no version or several.
          BadData: it is damaged.
        """
        home = Registry(pipeline.registry.root, pipeline.name).open(version, cache, whole=False)
        place = home / artifact.FILE
        return cls(pipeline, home, Manifest.parse(place.read_bytes(), str(place)))

    @property
    def id(self) -> str:
        """The version's id."""
        return self.manifest.version

    @property
    def published(self) -> "Version":
        """What was published; another object where its catalogue has grown (grown_version.py)."""
        return self

    def answering(self, source: str) -> "Version":
        """What of it makes the lists of a source; rows of these are rows of this version too."""
        return self

    @property
    def exclude_seen(self) -> bool:
        """Whether its lists are without what the user had before, where a request does not say
        (`serving.exclude_seen` of the pipeline file that it was published by). Its ranker was
        fitted for such lists.
        """
        serving = self.manifest.settings.get("serving", {})
        return bool(serving.get("exclude_seen", False))

    def leaves_out_seen(self, asked: bool | None) -> bool:
        """Whether a request's lists are without what the user had before."""
        return self.exclude_seen if asked is None else asked

    @cached_property
    def items(self) -> pa.Table:
        """The corpus: `_item`, `_name`, display and filter columns; row i is row i of the
        index.
        """
        return pq.read_table(self.home / artifact.ITEMS).combine_chunks()

    @cached_property
    def ids(self) -> np.ndarray:
        """Item ids by row, [N] objects: a list of them is made without Arrow."""
        ids: np.ndarray = self.items["_item"].to_numpy()
        return ids

    @cached_property
    def index(self) -> Index:
        """Nearest neighbours among the items' vectors."""
        index = load_index(self.home / artifact.INDEX)
        if len(index) != len(self.items):
            raise BadData(
                f"Row i of a version's index is row i of its items; {self.id} has {len(index)} and"
                f" {len(self.items)}. It was put together from different runs: roll back, and run"
                " the day again with --force."
            )
        return index

    @cached_property
    def users(self) -> UserStore | None:
        """The users it carries; None without `serving.user_store`."""
        folder = self.home / artifact.USERS
        return UserStore(folder) if folder.is_dir() else None

    @cached_property
    def fixed_order(self) -> FixedOrder:
        """What orders the candidates of its sources where no ranker does."""
        return FixedOrder.find(self.home) or FixedOrder.of([TWO_TOWER])

    @cached_property
    def candidate_sources(self) -> CandidateSources:
        """The sources besides the two-tower."""
        tables = read_tables(self.home)
        return CandidateSources.of(self.items, tables, self.fixed_order.half_life)

    def put_source(self, source: Source, name: str | None = None) -> None:
        """Has lists made by another source in place of the one of its name, or by one more, from the next
        answer on.

        Args:
          source: it.
          name: the name, where the source has none.
        """
        name = name or source.name
        by_name = {**self.candidate_sources.by_name, name: source}
        self.candidate_sources = replace(self.candidate_sources, by_name=by_name)
        if name not in self.sources:
            self.sources = [*self.sources, name]

    @cached_property
    def ranking_features(self) -> RankingFeatures:
        """What candidates are ranked by, as of its moment."""
        return RankingFeatures.of(self.candidate_sources.tables)

    @cached_property
    def _second_stage(self) -> SecondStage:
        return read_second_stage(self.home, self.ranking_features, self.candidate_sources)

    @property
    def ranker(self) -> Ranker | None:
        """What ranks the candidates; None where it carries none that this release can use."""
        return self._second_stage.ranker

    @property
    def warnings(self) -> list[str]:
        """What of it this release cannot use, and what it does instead."""
        problem = self._second_stage.problem
        return [problem] if problem else []

    @cached_property
    def sources(self) -> list[str]:
        """Names of the sources that it carries."""
        sources = [TWO_TOWER]
        if self.ranker:
            sources.append(RANKED)
        return [*sources, FIXED_ORDER, *self.candidate_sources.without_model]

    def sources_of(self, source: str) -> Sequence[str]:
        """Whose lists an answer is made of: those of the ranker, of the fixed order, or the one
        itself.
        """
        if source == RANKED:
            return self.ranker.sources if self.ranker else ()
        if source == FIXED_ORDER:
            return self.fixed_order.sources
        return (source,)

    def choose_source(self, source: str | None) -> str:
        """The source that answers: the one asked for, else the ranker where the gate lets it serve and
        the fixed order knows no more by now, else the fixed order; the two-tower where that uses
        nothing else.

        Raises:
          UsageError: the version has no such source.
        """
        if source is None:
            if self._second_stage.serves and not self.order_knows_more:
                return RANKED
            return TWO_TOWER if self.fixed_order.sources == (TWO_TOWER,) else FIXED_ORDER
        if source not in self.sources:
            raise UsageError(
                f"A list comes from one of the sources that a version carries; {self.id} has"
                f" {', '.join(self.sources)}, not {source!r}. Which there are is up to sources.use"
                " of the pipeline file."
            )
        return source

    @cached_property
    def attributes(self) -> Attributes:
        """What requests may filter by."""
        return Attributes(self.items, self.id)

    @cached_property
    def vocabularies(self) -> Vocabularies:
        """The values of category features that the query tower knows."""
        return Vocabularies(self.pipeline, self.home / QUERY_TOWER, self.id)

    @cached_property
    def _tower(self) -> Tower:
        # TensorFlow greets at length
        with (
            doing("loading TensorFlow and the query tower"),
            suppress_native_stderr(),
        ):
            return Tower(load_saved_model(str(self.home / QUERY_TOWER)))

    @cached_property
    def _rows_of_taken(self) -> np.ndarray:
        """Of the ids that stored users took; at the end -1, for none."""
        taken = self.users.taken if self.users else pa.array([], pa.string())
        return np.append(self.rows(taken), np.int32(UNKNOWN))

    @cached_property
    def _rows(self) -> IdTable:
        return IdTable(self.items["_item"])

    def encode(self, queries: pa.Table) -> np.ndarray:
        """The query tower's unit vectors of raw query features, [N, D] float32. Absent columns
        count as missing.
        """
        return self._tower(queries)

    def rows(self, ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> np.ndarray:
        """Rows of items by id, [N] int32; -1 for those outside the corpus.

        Args:
          ids: the ids, or numbers of those that stored users took (`UserStore.taken`).
        """
        if isinstance(ids, pa.DictionaryArray):
            number = ids.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            rows: np.ndarray = self._rows_of_taken[number]
            return rows
        if not isinstance(ids, pa.Array | pa.ChunkedArray):
            ids = list(ids)
        return self._rows.rows(ids)

    def describe(self, rows: np.ndarray | Sequence[int]) -> list[dict[str, str | None]]:
        """What people are shown of items: `item`, `name` and the display columns, by their own
        names.
        """
        columns = {"item": "_item", "name": "_name"}  # the name is the first display column
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
        """The same of items by their ids; those that left the catalogue have their id alone."""
        rows = self.rows(items)
        described = iter(self.describe(rows[rows >= 0]))
        return [
            next(described) if row >= 0 else {"item": item}
            for item, row in zip(items, rows, strict=True)
        ]
