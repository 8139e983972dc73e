"""What the names of columns and the words of event types say: a column's role (the user, the item, the time,
the event's type), text for people, and circumstances or outcomes of an event.

Names are cut into words, and compared with the lists of words below.
"""

import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import Literal

import polars as pl

from beam_jobs.ingest.columns import holds_bytes

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
_PARENTS = _words("parent root")
_OTHER = _PARENTS | _words(
    "last prev previous next ref referrer referring related recommended similar"
)
# Circumstances that an event decides.
_AFTERWARDS = _OTHER | _words("order purchase ship shipping shipped delivery to result outcome")
# What has ids, and is neither a user nor an item.
_GROUPS = _words(
    "category cat group type brand order transaction trans invoice basket cart request req event"
    " store shop merchant seller vendor campaign department dept class genre channel country region"
    " city row line query trace span batch payment coupon promotion zip postal impression"
)
# Circumstances that are known before an event.
_CONTEXTS = _words(
    "device platform os browser agent channel medium environment client app referrer referer source"
    " place page country region city state zip postal store shop language locale timezone network carrier"
    " gerät gerat kanal land stadt laite urządzenie urzadzenie appareil pays ville dispositivo canal pais"
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


_BUYING = re.compile(r"buy|bought|purchas|order|transaction|checkout|kauf|compra|achat|osto|zakup")
_SHOWING = re.compile(r"impression|exposure|shown|display|rendered|einblendung|affichage|impresi")
_ACT = re.compile(
    r"click|like|convert|conversion|bought|purchased|watched|listened|played|skip|label$"
)
_RATINGS = _words(
    "rating ratings stars star score review_score note bewertung sterne puntuacion calificacion valutazione"
    " beoordeling betyg karakter arvosana ocena oceny puan avaliacao"
)
_GIVING_BACK = re.compile(
    r"remov|return|refund|cancel|dislike|skip|unsub|unlike|unfollow|downvote|hide|report|retour|retoure"
    r"|storn|gelöscht|entfern|rembours|supprim|retir|devol|elimin|quitar|palaut|poist|zwrot|usun|iade"
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


def is_context(column: str) -> bool:
    """Whether a column of the events has the name of a circumstance that is known before the event: `user_city`,
    but not `next_page` or `ship_to_state`.
    """
    words = [_singular(word) for word in _words_of(column) if word not in _IDS]
    return bool(words) and words[-1] in _CONTEXTS and not _AFTERWARDS & {*words}


def describes(column: str) -> bool:
    """Whether a name speaks for what describes a user, an item or the circumstances of an event."""
    words = {_singular(word) for word in _words_of(column)}
    return bool(strength_as_id(column) or words & (_CONTEXTS | _GROUPS)) or is_outcome(column)


def is_rating(column: str) -> bool:
    """Whether a column of the events seems to say how much the user liked the item."""
    return bool(_RATINGS & set(_words_of(column)))


def is_act(column: str) -> bool:
    """Whether a column of the events seems to say whether the user acted, as `clicked` and `is_skipped` do."""
    words = set(_words_of(column)) - _words("is has was did label flag")
    return len(words) == 1 and any(_ACT.search(word) for word in words)


def shows(event_type: str) -> bool:
    """Whether an event of this type only says that the user was shown something."""
    return bool(_SHOWING.search(event_type.lower()))


def gives_back(event_type: str) -> bool:
    """Whether an event of this type undoes or rejects what the user took."""
    return bool(_GIVING_BACK.search(event_type.lower()))


def buys(event_type: str) -> bool:
    """Whether an event of this type is a purchase or what comes next to it."""
    return bool(_BUYING.search(event_type.lower())) and not gives_back(event_type)


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
        # The id of an event or an order is no user.
        if words[at] in _IDS and _GROUPS & set(words):
            continue
        # The price of an item is no item, but its id is. The name of an item is no user.
        says_more = any(word not in _IDS for word in words[at + 1 :])
        if role == "user" and listed_strength == 1:
            says_more |= bool(_ITEMS & set(words))
        if role in ("time", "event") or not says_more:
            other = role in ("user", "item") and (_OTHER - _PARENTS) & set(words)
            return min(listed_strength, 1) if other else listed_strength
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
