"""What the names and values of columns say: the role of a column (the user, the item, the time, the event's
type), text for people, and the features that a pipeline file is drafted with.

Names are cut into words, and compared with the lists of words below.
"""

import json
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from keyword import iskeyword
from typing import Any, Literal

import polars as pl

from beam_jobs.ingest.columns import holds_bytes
from beam_jobs.scaffold import log_figures

Role = Literal["user", "item", "time", "event"]
CLEAR = 3
"""Strength of a name that says what it is: `user_id`."""
NAMED = 2
"""Strength of a name that says it where no other does: `device_id`."""
_OUTCOME = (
    r"(^|_)(ratings?|scores?|prices?|amounts?|values?|quantity|quantities|qty|stars?|reward)(_|$)"
)
_SHOWN = r"title|name|description|headline"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_USERS = _words(
    "user customer cust client member account acct visitor buyer household hh hshd shopper"
    " subscriber reader viewer listener person people player patient guest patron borrower profile"
    " consumer uid userid reviewer student learner employee passenger rider traveler owner"
    " purchaser cardholder msno kunde kunden kundennr kundennummer kd nutzer benutzer besucher"
    " utilisateur usuario cliente cuid puid guid muid uuid fuid psid"
)
_DEVICES = _words(
    "device cookie anonymous anon distinct email mail login username msisdn phone loyalty card"
    " contact identity"
)
_SESSIONS = _words("session visit sid ip author name who")
_ITEMS = _words(
    "item product prod article artikel movie film track song video sku asin isbn isbn10 isbn13 ean"
    " ean13 gtin upc content listing book news offer goods game recipe story document doc episode"
    " podcast course restaurant poi venue hotel property artnr stockcode plu pid iid itemid nid"
    " produit producto produkt articulo material variant clip lesson artist album anime beer photo"
    " tmdb imdb part"
)
_PAGES = _words(
    "post page show series url stock title app job ad business thing what object entity media"
    " place resource question creative"
)
_TIMES = _words(
    "time date datetime timestamp ts at when created epoch day ds dat zeit datum zeitpunkt fecha"
    " hora heure moment occurred ordered clicked visited viewed watched purchased played rated"
    " bought borrowed seen utc timestr dt instant"
)
_TIME_ENDINGS = ("date", "time", "timestamp", "datetime", "datum", "zeit", "stempel")
_EVENTS = _words("event action behavior behaviour interaction activity verb operation")
_KINDS = _words("type kind status")
_STRENGTHS: dict[Role, Sequence[tuple[frozenset[str], int]]] = {
    "user": [(_USERS, CLEAR), (_DEVICES, NAMED), (_SESSIONS, 1)],
    "item": [(_ITEMS, CLEAR), (_PAGES, NAMED)],
    "time": [(_TIMES, CLEAR)],
    "event": [(_EVENTS, CLEAR), (_KINDS, NAMED)],
}
_ALL = frozenset[str]().union(*(words for lists in _STRENGTHS.values() for words, _ in lists))
_IDS = _words(
    "id ids key code no nr num number uuid guid hash token identifier nummer ident idx index"
    " handle unique pseudo external internal hashed"
)
_ID_SUFFIXES = sorted(_IDS, key=len, reverse=True)
# Names of a user or an item other than that of the event.
_OTHER = _words(
    "last prev previous next parent ref referrer referring related recommended similar root"
)
# What has ids, and is neither a user nor an item.
_GROUPS = _words(
    "category cat group type brand order transaction trans invoice basket cart request req event"
    " store shop merchant seller vendor campaign department dept class genre channel country region"
    " city row line query trace span batch payment coupon promotion zip postal impression"
)
# Times of a user, of an item, or of the making of the row, rather than of the event.
_OTHER_TIMES = _words(
    "birth birthday birthdate dob release released published publish publication expiry expires"
    " expired expiration valid signup registered registration joined join delivery delivered due"
    " update updated modified changed loaded load ingested ingest inserted processed end ended stop"
    " until deleted first last member since exported imported etl partition session shipped ship"
    " arrival sale"
)
_LOOKING = re.compile(r"view|click|impression|detail|visit|open|search|play|read|pv|ansicht|vista")
_TAKING = re.compile(
    r"buy|bought|purchas|cart|basket|transaction|order|checkout|wish|like|fav|rate|rating|borrow"
    r"|book|save|share|subscri|kauf|warenkorb|compra|achat|watch|listen|remove|add"
)


def snake(column: str) -> str:
    """A column's name as the name of a feature: lower-case ASCII letters, digits and underscores.

    Example:
      >>> snake("ItemPrice"), snake("Gerät"), snake("价格")
      ('item_price', 'gerat', 'c_')
    """
    words_apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column)
    # Splits a letter from its accent, which the next line then drops.
    letters = unicodedata.normalize("NFKD", words_apart).encode("ascii", "ignore").decode()
    name = re.sub(r"\W+", "_", letters).strip("_").lower()
    return name if name[:1].isalpha() else f"c_{name}"


def is_outcome(column: str) -> bool:
    """Whether a column of the events seems to be known only after the event."""
    return bool(re.search(_OUTCOME, snake(column)))


def is_shown(column: str, values: pl.Series) -> bool:
    """Whether a column of items seems to hold text for people, such as a title."""
    return bool(re.search(_SHOWN, column, re.I)) and not holds_bytes(values.dtype)


def _words_of(column: str) -> list[str]:
    """The words of a column's name: `clickUserID`, `click.user_id` and `click_userid` have the same."""
    words: list[str] = []
    for word in snake(column).split("_"):
        stem = next((w for w in _ID_SUFFIXES if word.endswith(w) and len(word) > len(w) + 1), "")
        head = word.removesuffix(stem)
        if stem and head in _ALL:
            words += [head, stem]
        else:
            words.append(word)
    return words


def strength(column: str, role: Role) -> int:
    """How much a name speaks for a role: 0 not at all, 3 as `user_id` for the user."""
    words = _words_of(column)
    if role == "time" and words[-1].endswith(_TIME_ENDINGS) and words[-1] != "update":
        return CLEAR
    for listed, listed_strength in _STRENGTHS[role]:
        at = max((n for n, word in enumerate(words) if _singular(word) in listed), default=None)
        if at is None:
            continue
        # The price of an item is no item, but its id is. The name of an item is no user.
        says_more = any(word not in _IDS for word in words[at + 1 :])
        if role == "user" and listed_strength == 1:
            says_more |= bool(_ITEMS & set(words))
        if role in ("time", "event") or not says_more:
            return listed_strength
    return 0


def _singular(word: str) -> str:
    return word if word in _ALL else word.removesuffix("s")


def strength_as_id(column: str) -> int:
    """How much a name speaks for a user or an item, as in `strength`."""
    return max(strength(column, "user"), strength(column, "item"))


def is_of_ids(column: str) -> bool:
    """Whether a name speaks for a user, an item or another id."""
    return bool(strength_as_id(column) or _IDS & set(_words_of(column)))


def is_other_time(column: str) -> bool:
    """Whether a name speaks for a time that is not the event's."""
    return bool(_OTHER_TIMES & set(_words_of(column)))


def likeness_to_id(column: str) -> float:
    """How much a name speaks for an id of users or items: 1 as `beer_id`, less as `parent_id`."""
    words = set(_words_of(column))
    likeness = float(bool(words & _IDS) or column.lower().endswith("id"))
    return likeness - 2 * bool(words & _OTHER) - 3 * bool(words & _GROUPS)


def likeness_to_events(values: Collection[str]) -> int:
    """Whether values are words for what users do: 2 if some are for looking, some for taking."""
    looking = sum(bool(_LOOKING.search(value.lower())) for value in values)
    taking = sum(bool(_TAKING.search(value.lower())) for value in values)
    if 2 * (looking + taking) < len(values):
        return 0
    return bool(looking) + bool(taking)


CATEGORY_SIZE = 5_000
_SEPARATORS = ("|", ";", ",", " ")
# A column is a list if at least this share of its values has a separator.
_CUT_SHARE = 0.1
_NUMBER_SHARE = 0.9
# Least number of events of repeated items: with fewer, equal values may be chance.
_ENOUGH_ROWS = 50
_MANY_INTEGERS = 100
_EVERY_PIPELINE: dict[str, dict[str, Any]] = {
    "user": {"tower": "query", "kind": "id"},
    "history": {"kind": "history"},
    "when": {"kind": "time"},
    "item": {"tower": "item", "kind": "id"},
    "clicks_1d": {"kind": "count", "days": 1},
    "clicks_7d": {"kind": "count", "days": 7},
    "item_age": {"kind": "age"},
}
# Chosen in docs/decisions/0012-contexts.md
_CONTEXT_DROPOUT = 0.05
Keys = dict[str, Any]
"""Keys of the table of a feature in the pipeline file."""
# Keys of features by table: their tower, and the table that they come from.
_SIDES: dict[str, Keys] = {
    "events": {"tower": "query"},
    "items": {"tower": "item"},
    "users": {"tower": "query", "from": "users"},
}


def feature_lines(
    events: pl.DataFrame,
    used: set[str | None],
    item: str,
    snapshots: Mapping[str, pl.DataFrame],
    own_keys: Mapping[str, str],
    figures: log_figures.LogFigures,
) -> list[str]:
    """Lines of the drafted file, a table for each feature; features that are left out become comments.

    Args:
      events: a sample of the events.
      used: columns of the events that have another use already.
      item: column of the items in the events.
      snapshots: samples of `items` and `users`, if there are any.
      own_keys: the columns of ids in `items` and `users`.
      figures: what the users of the log do.
    """
    lines: list[str] = []
    for name, keys in _EVERY_PIPELINE.items():
        reason = log_figures.why_left_out(figures, keys["kind"])
        lines += _feature_table(name, keys, reason)
        lines += [log_figures.length_line(figures)] if name == "history" else []
    names = set(_EVERY_PIPELINE)
    drafted = list(_features_of("events", events, used, _columns_of_items(events, item)))
    for table, rows in snapshots.items():
        drafted += _features_of(table, rows, {own_keys[table]})
    for table, column, keys, reason in drafted:
        name = snake(column)
        # TensorFlow uses the name of a feature as the name of an argument.
        if name in names or iskeyword(name):
            name = f"{table}_{name}"
        # Different columns may have the same letters, such as "Price" and "price!".
        same = sum(re.fullmatch(rf"{name}(_\d+)?", other) is not None for other in names)
        name += f"_{same + 1}" if same else ""
        names.add(name)
        lines += _feature_table(name, {**_SIDES[table], "column": column, **keys}, reason)
    train = list(log_figures.train_lines(figures))
    if any(table != "items" and not reason for table, _, _, reason in drafted):
        train += [
            "# A share of the queries is trained without the features of events and users, so that a",
            "# request that leaves them out, as of a user nobody knows, is answered well too.",
            f"context_dropout = {_CONTEXT_DROPOUT}",
        ]
    return [*lines, "", "[train]", *train]


def _feature_table(name: str, keys: Keys, reason: str = "") -> list[str]:
    """The table of a feature; a comment, if there is a reason to leave it out."""
    values = {key: json.dumps(value, ensure_ascii=False) for key, value in keys.items()}
    lines = [f"[features.{name}]", *(f"{key} = {value}" for key, value in values.items())]
    if reason:
        return ["", f"# Left out: {reason}.", *(f"# {line}" for line in lines)]
    return ["", *lines]


def _features_of(
    table: str,
    rows: pl.DataFrame,
    used: Collection[str | None],
    of_items: Collection[str] = (),
) -> Iterator[tuple[str, str, Keys, str]]:
    """Table, column and keys of each feature, and the reason if it is left out, else empty. Columns of
    events are the context of a query, except those in `of_items`, which describe the item.
    """
    for column in rows.columns:
        if column in used:
            continue
        keys, reason = kind(column, rows[column])
        if table == "events" and is_outcome(column):
            reason = "looks like an outcome of the event, not known before it"
        elif column in of_items:
            reason = (
                "the same in every event of an item, so it describes the item: write it to a table of"
                " items"
            )
        elif table == "events" and not reason and keys["kind"] != "category":
            reason = f"of kind {keys['kind']}; make sure that it is known before the click"
        elif table != "events" and not reason and re.search(r"id$", column, re.I):
            reason = "looks like an id"
        yield table, column, keys, reason


def _columns_of_items(events: pl.DataFrame, item: str) -> set[str]:
    """Columns of events with one value for each item, but not the same for all items."""
    # An item with one event says nothing: every column has one value for it.
    repeated = events.filter(pl.col(item).is_not_null() & pl.col(item).is_duplicated())
    if len(repeated) < _ENOUGH_ROWS:
        return set()
    items = repeated[item].n_unique()
    return {
        column
        for column in repeated.columns
        if column != item
        and not repeated[column].dtype.is_nested()
        and repeated[column].n_unique() > 1
        and repeated.select(item, column).n_unique() == items
    }


def kind(column: str, values: pl.Series) -> tuple[Keys, str]:
    """Keys of a feature that reads the column, and why it is left out; no reason if it is not."""
    dtype = values.dtype
    present = values.drop_nulls()
    distinct = 0 if dtype.is_nested() else present.n_unique()
    left_out: Keys = {"kind": "category"}
    if present.is_empty():
        return left_out, "no values in the sample"
    if holds_bytes(dtype):
        return left_out, "bytes, which need not be text"
    if isinstance(dtype, pl.List | pl.Array):
        return _list_kind(present), ""
    if dtype.is_temporal():
        return left_out, 'a time; of items, kind = "age" can count from it'
    if dtype.is_nested():
        return left_out, "a nested column"
    if distinct == 1:
        return left_out, "one value only in the sample"
    # Few different integers, such as a number of stars, are categories.
    many_integers = dtype.is_integer() and (distinct > _MANY_INTEGERS or not is_category(values))
    if dtype.is_float() or many_integers:
        return {"kind": "number", "log": bool((present >= 0).all())}, ""
    if dtype == pl.String and not is_shown(column, values) and (separator := _separator(present)):
        return {"kind": "categories", "separator": separator}, ""
    if dtype == pl.String and (example := _number_in_text(present)):
        return left_out, (
            f'numbers written as text, such as {example}; kind = "number" reads them from CSV and JSON'
            " Lines; in Parquet, make them numbers first"
        )
    if dtype == pl.String and distinct > min(CATEGORY_SIZE, 0.5 * len(present)):
        return {"kind": "text"}, ""
    if is_category(values):
        return {"kind": "category"}, ""
    reason = f"{distinct} values in {len(values)} rows, too many to tell that they are categories"
    return left_out, reason


def _list_kind(present: pl.Series) -> Keys:
    """Decimals in lists of one length are a vector; other lists are categories."""
    dtype = present.dtype
    lengths = present.list.len() if isinstance(dtype, pl.List) else present.arr.len()
    if dtype.inner.is_float() and lengths.n_unique() == 1:  # type: ignore[attr-defined]
        return {"kind": "vector", "size": int(lengths[0])}
    return {"kind": "categories"}


def _number_in_text(present: pl.Series) -> str | None:
    """The first number, if nearly all values are numbers and some are decimals: digits alone may be an id."""
    is_number = present.cast(pl.Float64, strict=False).is_not_null()
    has_point = present.str.contains(".", literal=True)
    if is_number.mean() < _NUMBER_SHARE or not (is_number & has_point).any():  # type: ignore[operator]
        return None
    return str(present.filter(is_number)[0])


def is_category(values: pl.Series) -> bool:
    """Whether the values repeat as those of a category do."""
    dtype = values.dtype
    if dtype.is_float() or dtype.is_temporal() or dtype.is_nested() or holds_bytes(dtype):
        return False
    return 1 < values.drop_nulls().n_unique() <= min(CATEGORY_SIZE, max(2, len(values) // 20))


def _separator(present: pl.Series) -> str | None:
    """The separator in strings such as `Drama|Crime`, if there are far fewer parts than combinations."""
    frequent = (
        separator
        for separator in _SEPARATORS
        if present.str.contains(separator, literal=True).sum() >= _CUT_SHARE * len(present)
    )
    separator = next(frequent, None)
    if separator is None:
        return None
    parts = present.str.split(separator).explode().str.strip_chars()
    distinct = parts.n_unique()
    # Cut at the spaces of a title or an address, there are almost as many parts as texts.
    repeat = distinct <= min(CATEGORY_SIZE, max(2, len(parts) // 20))
    return separator if repeat and 2 * distinct <= present.n_unique() else None
