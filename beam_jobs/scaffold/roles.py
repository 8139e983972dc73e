"""Which column of a log is the user, which the item, the time and the event's type: proposed from
a sample, by what the columns are called and by what they hold.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import polars as pl

from beam_jobs.ingest.column_values import holds_bytes
from beam_jobs.partitioning.time_forms import TimeForm, forms_of, is_sure
from beam_jobs.scaffold import feature_draft

Role = Literal["user", "item", "time", "event"]
ROLES: tuple[Role, ...] = get_args(Role)


class Candidate(NamedTuple):
    """A column that may have a role.

    Attributes:
      example: some of its values, for people.
      form: how its times are written; of times only.
    """

    column: str
    example: str
    form: TimeForm = TimeForm()


class Proposal(NamedTuple):
    """The columns that may have a role.

    Attributes:
      candidates: the likeliest first; none, if no column fits.
      sure: whether nobody needs to be asked. A log without a type of event is sure to have none.
    """

    role: Role
    candidates: tuple[Candidate, ...]
    sure: bool

    @property
    def column(self) -> str | None:
        """The likeliest column."""
        return self.candidates[0].column if self.candidates else None


Ask = Callable[[Proposal], str | None]
"""Asks a person which column has a role; None: no column has it, which only an event may say."""

_USERS = (
    "user customer cust client member account acct visitor buyer household hshd shopper subscriber"
    " reader viewer listener person people player patient guest patron borrower profile consumer"
    " uid userid reviewer student learner employee passenger rider traveler owner purchaser"
    " kunde kunden kundennr kundennummer nutzer benutzer besucher utilisateur usuario cliente"
    " cuid puid guid muid uuid"
)
_DEVICES = (
    "device cookie anonymous anon email mail login username msisdn phone loyalty card contact"
)
_SESSIONS = "session visit sid ip author name who"
_ITEMS = (
    "item product prod article artikel movie film track song video sku asin isbn isbn10 isbn13 ean"
    " ean13 gtin upc content listing book news offer goods game recipe story document doc episode"
    " podcast course restaurant poi venue hotel property artnr stockcode plu pid iid itemid nid"
    " produit producto produkt articulo material variant clip lesson artist album"
)
_PAGES = "post page show series url stock title app job ad business thing what object entity media"
_TIMES = (
    "time date datetime timestamp ts at when created epoch day dat zeit datum zeitpunkt"
    " zeitstempel fecha hora heure moment occurred ordered clicked visited viewed watched purchased"
    " played rated bought borrowed utc timestr dt eventtime instant"
)
_EVENTS = "event action behavior behaviour interaction activity verb operation"
_KINDS = "type kind status"
_VERBS = re.compile(
    r"view|click|buy|bought|purchas|cart|basket|transaction|order|like|play|watch|listen|read"
    r"|impression|rating|rate|wish|remove|add|search|share|save|favou?r|open|borrow|book|visit"
    r"|detail|checkout|pv|fav|kauf|warenkorb|ansicht|compra"
)
_ID_WORDS = (
    "id ids key code no nr num number uuid guid hash token identifier nummer ident idx index"
)
# What is told of someone or something that the log was not kept about.
_OTHER = "last prev previous next parent ref referrer referring related recommended similar root"
# Times of a user, an item, or of how the row was made, rather than of the event.
_OTHER_TIMES = (
    "birth birthday birthdate dob release released release published publish publication expiry"
    " expires expired expiration valid signup registered registration joined join delivery"
    " delivered due update updated modified changed loaded load ingested ingest inserted processed"
    " end ended stop until deleted first last member since exported imported etl partition start"
    " started shipped ship arrival sale"
)


Forms = Mapping[str, list[TimeForm]]
"""How the times of each column are written; none, if it holds no times."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STRENGTHS: dict[Role, Sequence[tuple[frozenset[str], int]]] = {
    "user": [(_words(_USERS), 3), (_words(_DEVICES), 2), (_words(_SESSIONS), 1)],
    "item": [(_words(_ITEMS), 3), (_words(_PAGES), 2)],
    "time": [(_words(_TIMES), 3)],
    "event": [(_words(_EVENTS), 3), (_words(_KINDS), 2)],
}
_ITEM_WORDS = _words(_ITEMS)
_NAMED = 2
"""Strength of a name, at least, that needs no question."""
_FEW = 5
_ENOUGH_ROWS = 50
_TOLD_APART = 0.95


def propose(
    rows: pl.DataFrame, given: Mapping[Role, str | None] | None = None
) -> dict[Role, Proposal]:
    """The columns that look like each role, by name and by content.

    Args:
      rows: a sample of the events, of more than a day if possible.
      given: columns whose role is known: they are proposed for no other.
    """
    known = {column for column in (given or {}).values() if column is not None}
    rows = rows.drop(known & set(rows.columns))
    forms = {column: forms_of(rows[column]) for column in rows.columns}
    time = _times(rows, forms)
    event = _events(rows)
    taken = {event.column, time.column if time.sure else None}
    user = _ids(rows, forms, "user", taken)
    item = _ids(rows, forms, "item", taken | ({user.column} if user.sure else set()))
    if item.sure and not user.sure:
        user = _ids(rows, forms, "user", taken | {item.column})
    return {"user": user, "item": item, "time": time, "event": event}


def key_of(rows: pl.DataFrame, role: Role, ids: pl.Series) -> str | None:
    """The column of a snapshot that holds the ids of its rows, if one does.

    Args:
      rows: a sample of items or users.
      role: `item` or `user`.
      ids: of the events.
    """
    wanted = ids.drop_nulls().unique().cast(pl.String)
    scores = {}
    for column in rows.columns:
        if _can_be_id(rows[column]):
            strength = _strength(column, role)
            known = wanted.is_in(rows[column].cast(pl.String).unique().implode()).sum()
            is_key = rows[column].n_unique() == len(rows)
            scores[column] = 10 * known / max(1, len(wanted)) + strength + is_key * bool(strength)
    best = max(scores, key=lambda column: scores[column], default=None)
    return best if best is not None and scores[best] >= _NAMED else None


class _Scored(NamedTuple):
    """A candidate: strength of its name, from 0 to 3, and how much speaks for it in all."""

    candidate: Candidate
    strength: int
    score: float


def _proposal(role: Role, scored: Sequence[_Scored], sure: bool) -> Proposal:
    return Proposal(role, tuple(one.candidate for one in scored), sure)


def _best_first(scored: list[_Scored]) -> list[_Scored]:
    return sorted(scored, key=lambda one: -one.score)


def words_of(column: str) -> list[str]:
    """The words of a column's name: `clickUserID`, `click.user_id` and `click_userid` are alike."""
    words: list[str] = []
    for word in feature_draft.snake(column).split("_"):
        stem = next((w for w in _ID_SUFFIXES if word.endswith(w) and len(word) > len(w) + 1), "")
        head = word.removesuffix(stem)
        if stem and head in _ALL_WORDS:
            words += [head, stem]
        else:
            words.append(word)
    return words


_ID_SUFFIXES = sorted(_words(_ID_WORDS), key=len, reverse=True)
_ALL_WORDS = frozenset().union(
    *(words for lists in _STRENGTHS.values() for words, _ in lists),
)


def _strength(column: str, role: Role) -> int:
    """How much a name speaks for a role: 0 not at all, 3 as `user_id` for the user."""
    words = words_of(column)
    for listed, strength in _STRENGTHS[role]:
        at = max((n for n, word in enumerate(words) if _singular(word) in listed), default=None)
        if at is None:
            continue
        # The price of an item is no item; the id of one is.
        told = [word for word in words[at + 1 :] if word not in _words(_ID_WORDS)]
        others = _ITEM_WORDS if role == "user" and strength == 1 else frozenset()
        if role not in ("user", "item") or not (told or others & set(words)):
            return strength
    return 0


def _singular(word: str) -> str:
    return word if word in _ALL_WORDS else word.removesuffix("s")


def _example(values: pl.Series) -> str:
    shown = values.drop_nulls().unique(maintain_order=True).head(3)
    return ", ".join(str(value)[:30] for value in shown)


def _times(rows: pl.DataFrame, all_forms: Forms) -> Proposal:
    """Columns whose values parse as times; sure, if one stands out by its name or is alone."""
    scored = []
    sure_of_form: dict[str, bool] = {}
    for column, forms in all_forms.items():
        strength = _strength(column, "time")
        is_number = forms and (forms[0].unit or forms[0].format == "%Y%m%d")
        # Ids may look like seconds.
        named_otherwise = max(_strength(column, "user"), _strength(column, "item"))
        if not forms or (is_number and not strength and named_otherwise):
            continue
        score = 2.0 * strength - 3 * bool(_words(_OTHER_TIMES) & set(words_of(column)))
        score += 2 * (not is_number) + 2 * _has_clock(rows[column], forms[0])
        sure_of_form[column] = is_sure(rows[column], forms)
        scored.append(_Scored(Candidate(column, _example(rows[column]), forms[0]), strength, score))
    scored = _best_first(scored)
    if not scored:
        return Proposal("time", (), False)
    best = scored[0]
    is_number = best.candidate.form.unit is not None
    alone = all(best.score - other.score >= 1 for other in scored[1:])
    sure = alone and (best.strength > 0 or not is_number) and sure_of_form[best.candidate.column]
    return _proposal("time", scored, sure and best.score > 0)


def _has_clock(values: pl.Series, form: TimeForm) -> bool:
    """Whether times are more than days."""
    if form.format:
        return "%H" in form.format or "%I" in form.format
    if form.unit:
        return True
    if values.dtype == pl.Date:
        return False
    if values.dtype == pl.String:
        return bool(values.drop_nulls().head(_ENOUGH_ROWS).str.contains(":").any())
    return bool((values.dt.date().cast(values.dtype) != values).any())


def _events(rows: pl.DataFrame) -> Proposal:
    """Columns of few values that are called like a type of event, or hold words such as `buy`."""
    scored = []
    for column in rows.columns:
        values = rows[column]
        if not feature_draft.is_category(values) or values.dtype == pl.Boolean:
            continue
        strength = _strength(column, "event")
        text = values.drop_nulls().unique().cast(pl.String).str.to_lowercase()
        verbs = bool(2 * text.str.contains(_VERBS.pattern).sum() >= len(text))
        if strength >= _NAMED + 1 or (strength and verbs) or (verbs and text.len() <= 2 * _FEW):
            score = strength + 3.0 * verbs
            scored.append(_Scored(Candidate(column, _example(values)), strength, score))
    scored = _best_first(scored)
    close = len(scored) > 1 and scored[1].score == scored[0].score
    unnamed = bool(scored) and scored[0].strength == 0
    return _proposal("event", scored, not close and not unnamed)


def _ids(rows: pl.DataFrame, forms: Forms, role: Role, taken: Collection[str | None]) -> Proposal:
    """Columns that hold ids, those that are called like the role first."""
    other: Role = "item" if role == "user" else "user"
    scored = []
    for column in rows.columns:
        if column in taken or not _can_be_id(rows[column]):
            continue
        strength = _strength(column, role)
        if not strength and _strength(column, other) >= _NAMED:
            continue
        score = 3.0 * strength + _looks_like_ids(rows[column], column)
        score -= 3 * (rows[column].dtype == pl.String and bool(forms[column]))
        scored.append(_Scored(Candidate(column, _example(rows[column])), strength, score))
    scored = _best_first(scored)
    if not scored:
        return Proposal(role, (), False)
    best = scored[0]
    rivals = [one for one in scored[1:] if best.score - one.score < 2 and one.strength]
    rivals = [one for one in rivals if not _same(rows, best, one)]
    sure = best.strength >= 1 and best.score > 0 and not rivals
    return _proposal(role, scored, sure)


def _can_be_id(values: pl.Series) -> bool:
    kind = values.dtype
    if kind.is_nested() or kind.is_temporal() or kind == pl.Boolean or holds_bytes(kind):
        return False
    if kind.is_float():
        present = values.drop_nulls().drop_nans()
        return bool(len(present)) and bool((present == present.round()).all())
    return values.null_count() < len(values)


def _looks_like_ids(values: pl.Series, column: str) -> float:
    """How much the values look like those of ids of users or items: they come again, but are not
    few.
    """
    words = words_of(column)
    score = float(bool(set(words) & _words(_ID_WORDS)) or column.lower().endswith("id"))
    present = values.drop_nulls()
    distinct = present.n_unique()
    many = len(present) >= _ENOUGH_ROWS
    score -= 2 * bool(_words(_OTHER) & set(words))
    score -= 3 * feature_draft.is_outcome(column)
    score -= 4 * (distinct == 1 and many)
    score -= 4 * (distinct == len(present) and many)  # numbers of the rows, orders
    score -= 2 * (distinct <= _FEW and many)
    if values.dtype == pl.String:
        texts = present.head(1000)
        score -= 3 * bool(2 * texts.str.contains(r"\S\s+\S").sum() > len(texts))
    elif values.dtype.is_float():
        score -= 1
    return score


def _same(rows: pl.DataFrame, one: _Scored, other: _Scored) -> bool:
    """Whether two columns tell the same rows apart, as an id and a name do."""
    a, b = one.candidate.column, other.candidate.column
    pairs = rows.select(a, b).n_unique()
    return bool(
        rows[a].n_unique() >= _TOLD_APART * pairs and rows[b].n_unique() >= _TOLD_APART * pairs
    )
