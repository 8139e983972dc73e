"""What the tables and features of a pipeline file must be to each other. A broken rule is a ValueError,
of which `load` makes a message.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches

from twinspire_core.config.feature_kinds import CountFeature, Feature, HistoryFeature, IdFeature
from twinspire_core.config.source_names import NEIGHBOURS
from twinspire_core.config.tables.data import (
    ColumnsConfig,
    CorpusConfig,
    SourceConfig,
    WindowConfig,
)
from twinspire_core.config.tables.deployment import ListsConfig, ServingConfig
from twinspire_core.config.tables.quality import SourcesConfig
from twinspire_core.config.tables.training import TrainConfig


def check_feature(name: str, feature: Feature, source: SourceConfig, window: WindowConfig) -> None:
    """A feature comes from a table that there is, and fits its tower."""
    if not re.match(r"^[a-z][a-z0-9_]*$", name):
        raise ValueError(f"a feature's name is lower case letters, digits and _, found {name!r}")
    table = feature.source_table
    is_id = isinstance(feature, IdFeature)
    if feature.tower == "item" and table in ("events", "users") and not is_id:
        raise ValueError(f"features.{name}: an item feature comes from items, not from {table}")
    if feature.tower == "query" and table == "items":
        raise ValueError(
            f"features.{name}: a query feature comes from events or users, not from items"
        )
    if table in ("items", "users") and getattr(source, table) is None:
        raise ValueError(f"features.{name} comes from {table}, but source.{table} is not declared")
    if isinstance(feature, CountFeature) and feature.days > window.count_days:
        raise ValueError(
            f"features.{name}.days is {feature.days}, more than window.count_days ="
            f" {window.count_days}"
        )


def check_sides(features: Mapping[str, Feature]) -> None:
    """Each tower has features, and one id at the most."""
    for side in ("query", "item"):
        of_side = [f for f in features.values() if f.tower == side]
        if not of_side:
            raise ValueError(
                f"the {side} tower has no features: declare at least one with tower = {side!r}"
            )
        if sum(isinstance(f, IdFeature) for f in of_side) > 1:
            raise ValueError(f"the {side} tower has more than one feature of kind id")


def check_history(
    features: Mapping[str, Feature],
    columns: ColumnsConfig,
) -> None:
    """A history has items to look up, and types of events that can be told."""
    histories = [f for f in features.values() if isinstance(f, HistoryFeature)]
    has_item_id = any(isinstance(f, IdFeature) and f.tower == "item" for f in features.values())
    if histories and not has_item_id:
        raise ValueError(
            "a history shares the item id's embedding: declare a feature of kind id, tower item"
        )
    if len(histories) > 1:
        raise ValueError("at most one feature of kind history")
    lists_types = columns.positives or any(f.types for f in histories)
    if lists_types and not columns.event:
        raise ValueError(
            "event types are listed, but columns.event does not say which column holds the type"
        )


def check_objectives(
    columns: ColumnsConfig, train: TrainConfig, event_columns: Mapping[str, str]
) -> None:
    """What is learned can be read, and is no feature.

    Args:
      columns: of the logs.
      train: what is learned.
      event_columns: by feature, the columns of events that features are read from.
    """
    if columns.weights and not columns.event:
        raise ValueError(
            "columns.weights go by event type, but columns.event does not say which column holds it"
        )
    for event_type in columns.weights:
        if columns.positives and event_type not in columns.positives:
            near = get_close_matches(event_type, columns.positives, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ", which is never trained on"
            raise ValueError(
                f"columns.weights are of positives, {list(columns.positives)};"
                f" found {event_type!r}{hint}"
            )
    if columns.positives and not any(columns.weights.get(t, 1.0) for t in columns.positives):
        raise ValueError(
            "columns.weights are 0 for all of columns.positives, so that nothing would be learned"
        )
    if train.auxiliary.weight and not columns.label:
        raise ValueError(
            "train.auxiliary.weight is above 0, but columns.label does not say which column to"
            " learn"
        )
    # The label is known only after the event: as a feature it would leak.
    for name, column in event_columns.items():
        if columns.label and column == columns.label:
            raise ValueError(
                f"features.{name} reads columns.label = {columns.label!r}: what is to be"
                " learned of an event cannot be known before it"
            )


def check_sources(sources: SourcesConfig, serving: ServingConfig) -> None:
    """Lists of single users are only in versions that hold users anyway."""
    if NEIGHBOURS in sources.use and not serving.user_store:
        raise ValueError(
            "sources.use names neighbours, whose tables are lists of single users, and"
            " serving.user_store = false keeps users out of versions: set it to true, or leave"
            " neighbours out"
        )


def check_lists(lists: ListsConfig, corpus: CorpusConfig, serving: ServingConfig) -> None:
    """Rules on lists go by what versions carry, and do not contradict each other."""
    known = corpus.attributes
    for name in lists.caps:
        if name in known:
            continue
        near = get_close_matches(name, known, 1)
        if near:
            hint = f"did you mean {near[0]!r}?"
        else:
            hint = f"known: {', '.join(known)}" if known else "none is declared there"
        raise ValueError(
            f"lists.caps are of corpus.attributes, which versions carry; found {name!r}; {hint}"
        )
    if lists.new_share and serving.exclude_seen:
        raise ValueError(
            f"lists.new_share = {lists.new_share:g} asks for items that are new to the"
            " user, and with serving.exclude_seen = true all of a list is new: leave one of"
            " them out"
        )
