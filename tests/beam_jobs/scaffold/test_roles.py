"""Which columns of a log `init` and `try` take for the user, the item, the time and the event."""

from datetime import datetime, timedelta
from itertools import cycle

import numpy as np
import polars as pl
import pytest

from beam_jobs.scaffold.roles import propose

ROWS = 2_000
DRAW = np.random.default_rng(7)
USER = DRAW.integers(1, 300, ROWS)
ITEM = DRAW.zipf(1.3, ROWS).clip(max=400)
SECONDS = 1_709_250_000 + np.sort(DRAW.integers(0, 20 * 86_400, ROWS))
CLOCK = [datetime(2024, 1, 1) + timedelta(seconds=int(s - 1_704_067_200)) for s in SECONDS]


def texts(pattern: str) -> list[str]:
    return [clock.strftime(pattern) for clock in CLOCK]


USERS = {
    "numbers": USER,
    "hashes": [f"{n * 2654435761 % 2**32:08x}" for n in USER],
    "emails": [f"u{n}@example.org" for n in USER],
}
ITEMS = {
    "numbers": ITEM + 100_000,
    "eans": ITEM + 4_006_381_330_000,
    "upcs, which are times in milliseconds": ITEM * 1_000_003 + 885_909_000_000,
    "codes": [f"AB-{n:04d}" for n in ITEM],
}
TIMES = {
    "timestamps": CLOCK,
    "ISO 8601": texts("%Y-%m-%dT%H:%M:%SZ"),
    "seconds": SECONDS,
    "milliseconds as text": [str(s * 1000 + 17) for s in SECONDS],
    "seconds as decimals": SECONDS.astype(float),
    "German": texts("%d.%m.%Y %H:%M:%S"),
    "American": texts("%m/%d/%Y %I:%M %p"),
    "days": [clock.date() for clock in CLOCK],
    "Apache": texts("%d/%b/%Y:%H:%M:%S +0100"),
}
EVENTS = DRAW.choice(["view", "view", "view", "add_to_cart", "purchase"], ROWS)

# What else stands in the logs of shops, of reading, of watching.
DECOYS = {
    "shop": {
        "row_id": np.arange(ROWS),
        "order_id": [f"O{n // 2:06d}" for n in range(ROWS)],
        "category_id": ITEM % 17,
        "product_name": [f"Blue mug no {n}" for n in ITEM],
        "unit_price": (ITEM * 1.37).round(2),
        "quantity": DRAW.integers(1, 5, ROWS),
        "country": DRAW.choice(["DE", "FR", "AT"], ROWS),
        "date_of_birth": [f"19{50 + n % 50}-03-0{1 + n % 9}" for n in USER],
        "updated_at": ["2024-04-02T03:00:00Z"] * ROWS,
        "user_agent": DRAW.choice(["Mozilla/5.0 (X11)", "Safari", "curl"], ROWS),
        "category": DRAW.choice(["garden", "kitchen", "toys"], ROWS),
    },
    "video": {
        "request_id": [f"{n:032x}" for n in range(ROWS)],
        "duration_ms": DRAW.integers(1_000, 7_200_000, ROWS),
        "release_date": [f"20{n % 20:02d}-01-0{1 + n % 9}" for n in ITEM],
        "watch_time": DRAW.integers(0, 7_200, ROWS),
        "is_mobile": DRAW.random(ROWS) < 0.5,
        "rating": DRAW.integers(1, 6, ROWS),
        "genres": DRAW.choice(["Drama|Crime", "War", "Comedy|Drama"], ROWS),
        "zip": DRAW.integers(10_000, 99_999, ROWS),
        "last_login": [datetime(2024, 2, 1)] * ROWS,
        "app_version": DRAW.choice(["1.2.0", "1.3.1"], ROWS),
    },
    "bare": {},
}

TIME_NAMES = str.split("""event_ts created created_at timestamp event_time datetime clicked_at ts occurred_at
 order_date InvoiceDate visit_date t_dat dt when_clicked Zeitpunkt datum event_timestamp utc_time
 viewedAt date_time Bestelldatum ds started_at orderdate unixReviewTime Date/Time""")
USER_NAMES = str.split("""user_id userId buyer device_id customer_id CustomerID visitorid household_key
 member_no client_id account uid cookie_id reader fullVisitorId cust_no anonymous_id login email
 patron_id kundennummer user.id subscriber_id shopper player_uuid user_pseudo_id KdNr distinct_id customer_unique_id""")
ITEM_NAMES = str.split("""item_id itemid isbn ean product_id StockCode article_id sku asin movieId track_id
 gtin video_id content_id listing_id news_id book_id click_article_id upc offer_id song product
 artikelnummer business_id game_key prod_code page_url item.id anime_id whisky_id parent_asin ItemCode""")


def table(decoys: str, **columns) -> pl.DataFrame:
    """A log of the columns and, in front of them and after them, others."""
    others = list(DECOYS[decoys].items())
    return pl.DataFrame(dict(others[::2]) | columns | dict(others[1::2]))


def chosen(rows: pl.DataFrame) -> dict[str, str | None]:
    """Columns by role, of which nobody would be asked."""
    return {role: proposal.column for role, proposal in propose(rows).items() if proposal.sure}


def each_with(names: list[str], values: dict) -> pytest.MarkDecorator:
    """Each name in one of the logs, with one kind of values; all of these come with many names."""
    cases = list(zip(names, cycle(values), cycle(DECOYS), strict=False))
    return pytest.mark.parametrize(("name", "kind", "decoys"), cases)


@each_with(TIME_NAMES, TIMES)
def test_the_time_column_is_recognised_by_name_and_values(name, kind, decoys):
    rows = table(decoys, user_id=USER, sku=ITEMS["codes"], **{name: TIMES[kind]})
    assert chosen(rows).get("time") == name


@each_with(USER_NAMES, USERS)
def test_the_user_column_is_recognised_by_name_and_values(name, kind, decoys):
    rows = table(decoys, action=EVENTS, at=SECONDS, item_id=ITEM, **{name: USERS[kind]})
    assert chosen(rows).get("user") == name


@each_with(ITEM_NAMES, ITEMS)
def test_the_item_column_is_recognised_by_name_and_values(name, kind, decoys):
    rows = table(decoys, buyer=USER, created=CLOCK, **{name: ITEMS[kind]})
    assert chosen(rows).get("item") == name


LOGS = {
    "MovieLens": ("userId movieId rating timestamp", ""),
    "RetailRocket": ("visitorid itemid event timestamp", "transactionid:rare"),
    "REES46": (
        "user_id product_id event_type event_time",
        "category_id:few category_code:kinds brand:kinds price:price user_session:session",
    ),
    "Online Retail": (
        "CustomerID StockCode - InvoiceDate",
        "InvoiceNo:order Description:words Quantity:stars UnitPrice:price Country:kinds",
    ),
    "H&M": ("customer_id article_id - t_dat", "price:price sales_channel_id:stars"),
    "Globo": (
        "user_id click_article_id - click_timestamp",
        "session_id:session session_size:stars click_environment:stars click_deviceGroup:stars",
    ),
    "Taobao": ("user_id item_id behavior_type ts", "category_id:few user_geohash:kinds"),
    "Yelp": ("user_id business_id stars date", "review_id:row useful:stars text:words"),
}
OTHERS = {
    "stars": DRAW.integers(1, 6, ROWS),
    "rare": [int(n) if n % 50 == 0 else None for n in range(ROWS)],
    "few": ITEM % 17 + 2_053_013_555,
    "kinds": DRAW.choice(["electronics.audio", "apparel.shoes", "kids.toys", "x.y"], ROWS),
    "price": (ITEM * 1.37).round(2),
    "session": [f"s{u}-{n // 600}" for n, u in enumerate(USER)],
    "order": [f"{536_365 + n // 4}" for n in range(ROWS)],
    "words": [f"SMALL WHITE MUG {n}" for n in ITEM],
    "row": [f"{n:022x}" for n in range(ROWS)],
}


@pytest.mark.parametrize(("name", "time"), zip(LOGS, TIMES, strict=False))
def test_public_logs_need_no_question(name, time):
    keys, others = LOGS[name]
    user, item, event, at = keys.split()
    columns = {user: USERS["hashes"], item: ITEMS["numbers"], at: TIMES[time]}
    if event != "-":
        columns[event] = OTHERS["stars"] if event in ("rating", "stars") else EVENTS
    columns |= {c: OTHERS[kind] for c, _, kind in (o.partition(":") for o in others.split())}
    shuffled = pl.DataFrame({c: columns[c] for c in sorted(columns)})
    expected = {"user": user, "item": item, "time": at, "event": None if event == "-" else event}
    assert chosen(shuffled) == expected


def test_without_names_time_and_event_are_recognised_and_ids_are_asked_for():
    rows = pl.DataFrame({"a": USER, "b": ITEM, "c": TIMES["German"], "d": EVENTS, "e": EVENTS})
    proposal = propose(rows.drop("e"))
    assert proposal["time"].column == "c" and proposal["time"].sure
    assert proposal["event"].column == "d"
    for role in ("user", "item"):
        assert {candidate.column for candidate in proposal[role].candidates} == {"a", "b"}
        assert not proposal[role].sure
    assert not propose(rows)["event"].sure, "two look alike"


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("updated_at", [datetime(2024, 4, 2)] * ROWS),
        ("signup_date", [datetime(2024, 1, 1) + timedelta(days=int(n) % 60) for n in USER]),
        ("release_date", [datetime(2020, 1, 1) + timedelta(days=int(n) % 60) for n in ITEM]),
        ("app_version", [f"{n % 3}.{n % 7}.{n % 9}" for n in range(ROWS)]),
        ("upc", ITEMS["upcs, which are times in milliseconds"]),
    ],
)
def test_what_only_looks_like_a_time_is_never_taken_for_it_unasked(column, values):
    rows = pl.DataFrame({column: values, "user_id": USER, "item_id": ITEM})
    assert not propose(rows)["time"].sure
    assert chosen(rows.with_columns(when_read=pl.Series(CLOCK)))["time"] == "when_read"


def test_a_log_without_a_type_of_event_is_sure_to_have_none():
    sources = DRAW.choice(["search", "direct", "newsletter", "partner"], ROWS)
    rows = table("shop", user_id=USER, item_id=ITEM, at=SECONDS, source=sources)
    assert propose(rows)["event"] == ("event", (), True)


def test_two_that_may_be_the_user_are_asked_about_unless_they_are_one_another():
    rows = table("shop", buyer_id=USER, customer_id=USER[::-1], item_id=ITEM, at=SECONDS)
    proposal = propose(rows)["user"]
    assert not proposal.sure
    assert {candidate.column for candidate in proposal.candidates[:2]} == {
        "buyer_id",
        "customer_id",
    }
    rows = table("shop", user_id=USER, account=USERS["emails"], item_id=ITEM, at=SECONDS)
    assert chosen(rows)["user"] == "user_id"


@pytest.mark.parametrize(
    "form",
    [
        *("%d.%m.%Y %H:%M:%S", "%m/%d/%Y", "%d/%m/%Y %H:%M", "%Y%m%d", "%Y%m%d%H%M%S"),
        *("%d.%m.%y, %H:%M", "%b %d, %Y %I:%M:%S %p", "%d %B %Y", "%a, %d %b %Y %H:%M:%S %z"),
        None,
    ],
)
def test_the_format_of_a_time_is_recognised(form):
    written = texts((form or "%Y-%m-%d %H:%M").replace("%z", "+0000"))
    proposal = propose(table("bare", user_id=USER, item_id=ITEM, bought=written))["time"]
    assert proposal.sure and proposal.candidates[0].form.format == form


def test_days_that_may_be_months_are_asked_about():
    """The 3rd of April or the 4th of March: of one day nobody can tell, of some the span tells."""
    one_day = ["03/04/2024 10:00", "03/04/2024 11:30"] * 50
    rows = pl.DataFrame({"user_id": USER[:100], "item_id": ITEM[:100], "time": one_day})
    assert not propose(rows)["time"].sure
    week = [f"{3 + n % 7:02d}/04/2024 10:00" for n in range(100)]
    proposal = propose(rows.with_columns(time=pl.Series(week)))["time"]
    assert proposal.sure and proposal.candidates[0].form.format == "%d/%m/%Y %H:%M"


@pytest.mark.parametrize("seed", range(5))
def test_the_item_is_the_finest_column_that_comes_again_and_people_are_asked(seed):
    """Episodes of shows, with names; each user's sessions are finer, but of one user."""
    rng = np.random.default_rng(seed)
    user, episode = rng.integers(0, 60, 3000), rng.zipf(1.3, 3000) % 200
    columns = {
        "who": [f"p{n}" for n in user],
        "visit": [f"v{n}-{k}" for n, k in zip(user, rng.integers(0, 9, 3000), strict=True)],
        "show_id": [f"s{n // 10}" for n in episode],
        "slug": [f"e{n}" for n in episode],
        "caption": [f"Part {n} of it" for n in episode],
    }
    rows = pl.DataFrame({name: columns[name] for name in rng.permutation(list(columns))})
    given = {"user": "who", "time": None, "event": None}
    proposal = propose(rows, given)["item"]
    assert (proposal.column, proposal.sure) == ("slug", False)
    # Without the episodes, the show is the item
    assert propose(rows.drop("slug", "caption"), given)["item"].column == "show_id"
