"""The feature job's output for other stages: folders, columns and raw Arrow types.

Imports no Beam and no TensorFlow. Columns of bookkeeping start with `_`; all others are raw features, named
as in the pipeline file:

    id, category, text     string, null = missing
    categories             list<string>, never null, empty = missing
    number, count, age     float, null = missing
    vector                 list<float>, empty = missing
    history                list<string> of item ids, oldest first, empty = none
    time, named t          t_hour (0-23) and t_weekday (0 = Monday), int64, in the pipeline's zone
"""

import math
from collections.abc import Mapping
from datetime import date

import pyarrow as pa

from twinspire_core.config.feature_kinds import Feature, TextFeature, TimeFeature, Tower
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import UsageError

# Folders under the stage's output.
EXAMPLES = "examples"
AT_START = "start"
AT_END = "end"
"""Folders of tables as of the start of the day, and as of its end."""
CORPUS = "corpus"
CORPUS_START = f"{CORPUS}/{AT_START}"
CORPUS_END = f"{CORPUS}/{AT_END}"
SEQUENCES = "sequences"
EVALUATION = "evaluation"
REPLAY = "replay"
"""Folder of replayed days. A first day, or a day after a gap, makes for each earlier day: `evaluation/` of
some users who were not held out, `corpus/start/`, and on every seventh day the tables of sources as of its
start.
"""
USERS = "users"
TRANSFORM = "transform"
TRANSFORMED = "transformed"
REJECTED = "rejected"

TIME = pa.timestamp("us", tz="UTC")
STRINGS = pa.list_(pa.string())
FLOATS = pa.list_(pa.float32())
LABEL = "_label"
ROW = "_row"
"""The column with a number for each row of the analysis."""
PAST_LENGTH = 500
"""The most items in `_past`, and in `_personal`."""
PERSONAL_HALF_LIVES = {
    "_personal_7d": 7.0,
    "_personal_15d": 15.0,
    "_personal_30d": 30.0,
    "_personal_60d": 60.0,
    "_personal_120d": 120.0,
    "_personal_all": math.inf,
}
"""Half-lives in days, by the column of a user's counts of items."""
TRENDING_HALF_LIVES = {
    "_trending_1h": 1 / 24,
    "_trending_3h": 3 / 24,
    "_trending_12h": 12 / 24,
    "_trending_1d": 1.0,
    "_trending_3d": 3.0,
    "_trending_7d": 7.0,
    "_trending_28d": 28.0,
    "_trending_60d": 60.0,
}
"""Half-lives in days, by the column of an item's count of events."""
FIRST_SEEN = "_first_seen"
"""Column of the days since an item's first event."""
PERSONAL_SPAN = "_personal_span"
"""Column of the days from a user's first event of an item to the last."""
PERSONAL_DAYS = "_personal_days"
"""Column of the number of days on which a user took an item."""
VISITS = "_personal_visits"
"""Column of the number of days on which a user took anything."""
BUYERS = "_buyers"
AGAIN = "_again"
AGAIN_DAYS = "_again_days"
REPURCHASES = (BUYERS, AGAIN, AGAIN_DAYS)
"""Columns about repeat purchases of an item."""
SEQUENCE_LENGTH = 500
"""The most events of a user in `sequences/`, the newest."""
CORPUS_FILE_ROWS = 1 << 18
"""The most rows of a file of the corpus, so that several workers can embed it."""

# Columns of an example that identify its event.
_EVENT = {
    "_user": pa.string(),
    "_item": pa.string(),
    "_time": TIME,
    "_reward": pa.float32(),
    LABEL: pa.float32(),
}


def day_folder(day: date) -> str:
    """Name of a day's folder inside `examples/` and `transformed/`."""
    return f"dt={day}"


def replay_folder(day: date) -> str:
    """Folder of a replayed day."""
    return f"{REPLAY}/{day_folder(day)}"


def feature_columns(name: str, feature: Feature) -> list[pa.Field]:
    """The columns of one feature: two for a time, one for any other kind."""
    return [pa.field(column, _arrow_type(feature)) for column in feature.columns(name)]


def _arrow_type(feature: Feature) -> pa.DataType:
    # Towers read these two in another form than the stored one.
    if isinstance(feature, TextFeature):
        return pa.string()
    if isinstance(feature, TimeFeature):
        return pa.int64()
    return {"id": pa.string(), "ids": STRINGS, "number": pa.float32(), "vector": FLOATS}[
        feature.form
    ]


def query_columns(p: Pipeline) -> list[pa.Field]:
    """Raw features of the query tower, in the file's order."""
    return [column for name, f in p.tower("query").items() for column in feature_columns(name, f)]


def item_columns(p: Pipeline) -> list[pa.Field]:
    """Raw features of the item tower, in the file's order."""
    return [column for name, f in p.tower("item").items() for column in feature_columns(name, f)]


def example_schema(p: Pipeline) -> pa.Schema:
    """`examples/dt=D/`: one row per positive event, sorted by time, user, item.

    `_reward` is cut to `columns.reward_clip`, then multiplied by the type's factor in
    `columns.weights`. `_label` is there if `columns.label` is declared; null = none. `_holdout`
    marks the users that D is not trained on.
    """
    meta = [(name, kind) for name, kind in _EVENT.items() if name != LABEL or p.columns.label]
    return _schema([*meta, ("_holdout", pa.bool_())], query_columns(p) + item_columns(p))


def analysis_schema(p: Pipeline, tower: Tower) -> pa.Schema:
    """The rows that the transform graph is fitted on, inside the job: the positives of the vocabulary days,
    with separate rows for each tower's columns.

    `_time`, for an item's row the start of the day; `_row`, a number that no other row of the tower
    has; and the raw features that have a vocabulary or are scaled. Counts and ages are those at the
    start of the event's day, null where the days that were read do not reach back far enough.
    """
    analysed = {name: f for name, f in p.tower(tower).items() if f.is_analysed}
    columns = [c for name, f in analysed.items() for c in feature_columns(name, f)]
    return pa.schema([("_time", TIME), (ROW, pa.int64()), *columns])


def corpus_schema(p: Pipeline, attributes: Mapping[str, pa.DataType] | None = None) -> pa.Schema:
    """`corpus/start/`, `corpus/end/`: one row per item that can be recommended, sorted by `_item`.

    `_popular` counts the item's events in `window.count_days`, `_lately` in the last of these days,
    up to the start or the end of the day. With several sources, columns hold decayed counts as of the
    same moment; `_first_seen` are the days since the item's first event, null where none is known;
    `_buyers` the users who took it, `_again` the share of their days with it that were not the first,
    `_again_days` the mean days to these from the one before, null where there are none. `_name`
    is the first display column; display columns are text, under `display_name`; attributes keep the
    items snapshot's own type, under `attribute_name`.

    Args:
      p: the pipeline that declares display columns, attributes and features.
      attributes: types in the items snapshot by column; others are strings.
    """
    meta = [
        ("_item", pa.string()),
        ("_name", pa.string()),
        ("_popular", pa.int64()),
        ("_lately", pa.int64()),
    ]
    if p.sources.several:
        meta += [(name, pa.float64()) for name in TRENDING_HALF_LIVES]
        meta += [(name, pa.float32()) for name in (FIRST_SEEN, *REPURCHASES)]
    display = [(display_name(column), pa.string()) for column in p.corpus.display]
    types = attributes or {}
    filters = [
        (attribute_name(column), types.get(column, pa.string())) for column in p.corpus.attributes
    ]
    return _schema(meta + display + filters, item_columns(p))


def replayed_corpus_schema(whole: pa.Schema) -> pa.Schema:
    """The corpus of a replayed day: `corpus_schema` without the columns for people and for towers, which have
    most of its bytes.
    """
    shown = ("_name", display_name(""))
    return pa.schema([f for f in whole if f.name.startswith("_") and not f.name.startswith(shown)])


def display_name(column: str) -> str:
    """The corpus's name of a column for display."""
    return f"_display_{column}"


def attribute_name(column: str) -> str:
    """The corpus's name of a column that requests filter by."""
    return f"_attribute_{column}"


def evaluation_schema(p: Pipeline) -> pa.Schema:
    """`evaluation/`: one query per user and day, as of the start of that day; each file is sorted by user.

    `_truth` holds the day's distinct positives, in order of first event; `_past` the distinct items
    of the longest window (`window.history_days`, `window.personal_days`), most frequent first, then
    most recent, at most `PAST_LENGTH`; `_past_events` is the number of their events. Newcomers, who have no
    such events, are included with an empty history. Their context is that of their first positive of the day,
    unless earlier events exist that do not enter histories.
    """
    meta = [
        ("_user", pa.string()),
        ("_day", pa.date32()),
        ("_holdout", pa.bool_()),
        ("_truth", STRINGS),
    ]
    return _schema(meta + _past(p), query_columns(p))


def users_schema(p: Pipeline) -> pa.Schema:
    """`users/`: each user of the longest window, with the features for serving on the next day; each file is
    sorted.
    """
    return _schema([("_user", pa.string()), ("_last_time", TIME), *_past(p)], query_columns(p))


def sequences_schema() -> pa.Schema:
    """`sequences/start/`, `sequences/end/`: the events of each user without the user's id, as of the start
    and the end of the day. Candidate sources are fitted on them.

    One row per user of the last `window.personal_days`. `_items` are the newest events' items,
    newest first, at most `SEQUENCE_LENGTH`, and `_ages` the days from each event to the moment.
    """
    return pa.schema([("_items", STRINGS), ("_ages", pa.list_(pa.float32()))])


def _past(p: Pipeline) -> list[tuple[str, pa.DataType]]:
    """Columns of a query about the user's purchase history.

    With several sources, `_personal` holds the distinct items of the last `window.personal_days`, at
    most `PAST_LENGTH`. Lists of the same lengths hold their decayed counts by half-life,
    `_personal_age`, days since the last event of each, `_personal_span`, days from the first event of
    each to the last, and `_personal_days`, the number of days with such events. `_personal_visits` is the
    number of days with any event.
    """
    columns = [("_past", STRINGS), ("_past_events", pa.int64())]
    if p.sources.several:
        columns.append(("_personal", STRINGS))
        lists = (*PERSONAL_HALF_LIVES, "_personal_age", PERSONAL_SPAN, PERSONAL_DAYS)
        columns += [(name, FLOATS) for name in lists]
        columns.append((VISITS, pa.float32()))
    return columns


def _schema(meta: list[tuple[str, pa.DataType]], features: list[pa.Field]) -> pa.Schema:
    columns = [pa.field(*column) for column in meta] + features
    if doubles := {c.name for c in columns if sum(c.name == other.name for other in columns) > 1}:
        raise UsageError(
            f"Two features must not make the same column; {', '.join(sorted(doubles))} is made twice."
            " Rename one feature."
        )
    return pa.schema(columns)
