"""`twinspire init`: a first pipeline file from logs."""

import random
import re
from collections import Counter
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import polars as pl
import pytest

from beam_jobs.partitioning.calendar_days import Layout
from beam_jobs.partitioning.partition import partition
from beam_jobs.scaffold import log_figures
from beam_jobs.scaffold.draft import draft
from beam_jobs.scaffold.log_figures import figures_of
from tests.beam_jobs.scaffold.test_validate import not_ok
from tests.shop import lay_out
from twinspire_core.config.pipeline import load
from twinspire_core.config.tables.data import ColumnsConfig
from twinspire_core.config.tables.quality import SourcesConfig
from twinspire_core.errors import BadData, UsageError

DAY = date(2024, 3, 5)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return lay_out(tmp_path_factory.mktemp("shop"))


def test_a_draft_is_a_valid_file_that_fits_the_logs_it_was_drawn_from(shop, tmp_path):
    logs = shop.parent
    text = draft("shop", logs / "events", logs / "items", logs / "users", "Europe/Berlin")
    (tmp_path / "shop.toml").write_text(text)
    p = load(tmp_path / "shop.toml")
    columns = p.columns.user, p.columns.item, p.columns.time, p.columns.event
    assert columns == ("user_id", "item_id", "at", "type")
    assert {*SourcesConfig().use, "neighbours"} == set(p.sources.use)
    assert p.source.events == f"{logs}/events/dt={{date}}/"
    assert p.corpus.display == ("title",)
    assert p.features["device"].tower == "query" and p.features["kind"].tower == "item"
    assert p.features["price"].kind == "number" and p.features["city"].source_table == "users"
    assert p.train.context_dropout > 0
    assert p.serving.user_store and p.corpus.attributes == ("kind",)
    assert not not_ok(tmp_path / "shop.toml")
    weighed = text.replace("# weights", "weights")
    assert weighed != text
    (tmp_path / "shop.toml").write_text(weighed)
    assert load(tmp_path / "shop.toml").columns.weights == {"buy": 3.0}


def write_log(file: Path, events: list[tuple[int, int, datetime]]) -> Path:
    """A log in one file, its rows in no order."""
    users, items, times = zip(*events, strict=True)
    rows = pl.DataFrame({"user_id": users, "item_id": items, "at": times})
    rows.sample(fraction=1, shuffle=True, seed=1).write_parquet(file)
    return file


def made_log(kind: str) -> list[tuple[int, int, datetime]]:
    """Events of 40 users."""
    rng = random.Random(kind)
    first = datetime(2024, 1, 1, 12, tzinfo=UTC)
    if kind == "news":  # an article is read on its day and on the next, one after the other
        span = [first + timedelta(days=n, minutes=user) for n in range(16) for user in range(40)]
        reads = [(at, m) for at in span for m in rng.sample(range(9), 2)]
        ids = [9 * ((at - first).days - m % 2) + m for at, m in reads]
        times = [at + timedelta(seconds=40 * m) for at, m in reads]
        return list(zip([at.minute for at, _ in reads], ids, times, strict=True))
    if kind == "films":  # users come a few times in three years and take only what is new to them
        log = []
        for user in range(40):
            films = rng.sample(range(300), 60)
            days = [min(1095, int(rng.expovariate(1 / 400)) + 30 * n) for n in range(6)]
            times = [first + timedelta(days=days[n % 6], seconds=n) for n in range(60)]
            log += [(user, film, at) for film, at in zip(films, times, strict=True)]
        return log
    # Shoppers: a basket of seven every so many days, mostly of forty products of the user's
    gap, span = {"weekly shoppers": (7, 365), "groceries": (3, 90)}[kind]
    log = []
    for user in range(40):
        usual = rng.sample(range(500), 40)
        for day in range(user % gap, span, gap):
            basket = {*rng.sample(usual, 5), *rng.sample(range(500), 2)}
            log += [(user, item, first + timedelta(days=day)) for item in basket]
    return log


LINES = {
    "weekly shoppers": """train_days = 140 | exclude_seen = false | length = 200 | order = "shuffled"
        history_days = 365  # 65% of events repeat one of an earlier day
        history = { pooling = "sqrtn" } | epochs = 6 | negatives = { mask_positives = true }
        [features.clicks_7d]""",
    "groceries": """train_days = 60 | exclude_seen = false | length = 200
        history = { pooling = "sqrtn" } | negatives = { mask_positives = true }""",
    "films": """train_days = 1089 | history_days = 1089 | exclude_seen = true | length = 50
        history = { pooling = "attention" } | order = "shuffled" | negatives = { uniform = 300 }
        epochs = 6 | # [features.clicks_1d] | # [features.item_age]""",
    "news": """train_days = 7  # 560 events; 100% of events are on items less than 4 days old
        exclude_seen = true | length = 20 | negatives = { uniform = 144 } | epochs = 3
        # [features.clicks_7d] | [features.item_age]""",
}
"""Beginnings of lines in drafts of made logs."""


@pytest.mark.parametrize("kind", LINES)
def test_a_draft_follows_the_log(tmp_path, kind):
    text = draft("x", write_log(tmp_path / "log.parquet", made_log(kind)))
    (tmp_path / "x.toml").write_text(text)
    p = load(tmp_path / "x.toml")
    assert p.serving.exclude_seen == (kind in ("films", "news"))
    assert (p.train.order == "time") == (kind == "news")
    for beginning in re.split(r" \| |\n +", LINES[kind]):
        assert any(line.startswith(beginning) for line in text.splitlines()), beginning


@pytest.mark.parametrize(("examples", "epochs"), [(5_000, 6), (20_000, 3), (59_000, 1)])
def test_habits_take_several_passes_only_where_examples_are_few(examples, epochs):
    users = {"days_between": 3, "earlier": 100, "repeats": 0.5, "at_once": 1}
    items = {"items": 500, "new_days": 7, "turnover": 0}
    daily = [examples // 50] * 50
    log = log_figures.LogFigures(events=examples, daily=daily, **users, **items)
    lines = [*log_figures.train_lines(log)]
    assert f"epochs = {epochs}  # {examples:,} examples" in lines


def slow_figures(log: list[tuple[int, int, datetime]]) -> dict[str, Any]:
    """The same event by event."""
    log = sorted(set(log), key=lambda event: event[2])
    days = sorted({at.date() for _, _, at in log})
    span = (days[-1] - days[0]).days + 1
    new_days = min(7, max(1, span // 4))
    born: dict[int, date] = {}
    of_user: dict[int, list[tuple[int, datetime]]] = {}
    earlier, repeats, young = [], {}, []
    of_day = Counter(at.date() for _, _, at in log)
    moments = Counter((user, at) for user, _, at in log)
    for user, item, at in log:
        today = at.date()
        past = of_user.setdefault(user, [])
        repeats[user, item, today] = any(i == item and t.date() < today for i, t in past)
        earlier.append(len(past))
        past.append((item, at))
        if (today - days[0]).days >= span // 2:
            young.append((today - born.setdefault(item, today)).days < new_days)
        born.setdefault(item, today)
    visits_of = [sorted({t.date() for _, t in past}) for past in of_user.values()]
    gaps = [(after - before).days for visits in visits_of for before, after in pairwise(visits)]
    return {
        "events": len(log),
        "daily": [of_day[days[0] + timedelta(days=n)] for n in range(span)],
        "items": len(born),
        "days_between": median(gaps),
        "earlier": int(median(earlier)),
        "repeats": mean(repeats.values()),
        "at_once": mean(moments[user, at] > 1 for user, _, at in log),
        "new_days": new_days,
        "turnover": mean(young),
    }


@pytest.mark.parametrize("kind", ["films", "news", "groceries"])
def test_figures_of_a_log_are_those_of_counting_event_by_event(tmp_path, kind, monkeypatch):
    log = made_log(kind)
    columns = ColumnsConfig(user="user_id", item="item_id", time="at")
    write_log(tmp_path / "a.parquet", log[::2])
    rows = pl.read_parquet(write_log(tmp_path / "b.parquet", log[1::2]))
    text = pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    rows.with_columns(text).write_ndjson(tmp_path / "b.jsonl")
    files = [tmp_path / "b.jsonl", tmp_path / "a.parquet"]
    figures = asdict(figures_of(files, columns, "UTC"))
    slow = slow_figures(log)
    assert figures.pop("daily") == slow.pop("daily")
    assert figures == pytest.approx(slow)

    monkeypatch.setattr(log_figures, "_MOST_ROWS", len(log) // 2)
    some = asdict(figures_of(files, columns, "UTC"))
    assert some["repeats"] == pytest.approx(figures["repeats"], abs=0.05)
    exact = ("events", "items", "new_days")
    assert [some[name] for name in exact] == [figures[name] for name in exact]


@pytest.mark.parametrize("user", range(4))
def test_a_log_of_one_busy_user_is_measured(tmp_path, monkeypatch, user):
    monkeypatch.setattr(log_figures, "_MOST_ROWS", 10)
    rows = {"user": [f"u{user}"] * 30, "item": range(30), "time": range(30)}
    pl.DataFrame(rows).write_csv(tmp_path / "log.csv")
    columns = ColumnsConfig(user="user", item="item", time="time", time_unit="s")
    assert figures_of([tmp_path / "log.csv"], columns, "UTC").daily == [30]


def test_types_of_events_are_those_of_all_days_not_of_the_first(tmp_path):
    for n in range(20):
        kinds = ["buy" if n > 10 and user % 20 == 0 else "view" for user in range(60)]
        day = date(2024, 1, 1) + timedelta(n)
        rows = {"user_id": range(60), "item_id": [n % 3] * 60, "at": [f"{day}T10:00:00Z"] * 60}
        (tmp_path / f"events/dt={day}").mkdir(parents=True)
        pl.DataFrame({**rows, "type": kinds}).write_parquet(tmp_path / f"events/dt={day}/a.parquet")
    assert 'positives = ["buy", "view"]' in draft("x", tmp_path / "events")


@pytest.mark.parametrize(("items", "k"), [(8, 1), (25, 2), (199, 10), (499, 20), (500, 50)])
def test_measured_lists_hold_at_most_a_tenth_of_the_catalogue(tmp_path, items, k):
    events = [
        (n % 7, n % items, datetime(2024, 5, 1 + n % 5, n % 24, tzinfo=UTC)) for n in range(600)
    ]
    (tmp_path / "shop.toml").write_text(draft("shop", write_log(tmp_path / "log.parquet", events)))
    p = load(tmp_path / "shop.toml")
    assert p.gate.metric == f"recall@{k}" and k in p.evaluation.ks


def test_days_without_events_and_columns_of_other_types_are_no_obstacle(tmp_path):
    for day, x in enumerate(["[1]", '"a"', '{"b": 1}', "2"], 1):
        folder = tmp_path / f"events/dt=2024-03-0{day}"
        folder.mkdir(parents=True)
        (folder / "empty.jsonl").touch()
        row = f'{{"user": {day}, "item": 2, "at": "2024-03-0{day}", "x": {x}}}\n'
        (folder / "log.jsonl").write_text(row)
    (tmp_path / "x.toml").write_text(draft("x", tmp_path / "events", given={"user": "user"}))
    assert load(tmp_path / "x.toml").columns.item == "item"


def test_a_log_without_context_has_none_to_leave_out(tmp_path):
    rows = {"user_id": ["u1"], "item_id": ["i1"], "at": ["2024-03-05T10:00:00Z"], "price": [1.5]}
    pl.DataFrame(rows).write_parquet(tmp_path / "log.parquet")
    text = draft("x", tmp_path / "log.parquet")
    assert "# [features.price]" in text, "left out, as an outcome"
    assert "context_dropout" not in text


def test_column_names_in_any_script_give_valid_feature_names(tmp_path):
    at = [f"2024-03-05T10:{n:02}:00Z" for n in range(60)]
    ids = {"user_id": [f"u{n % 7}" for n in range(60)], "item_id": [f"i{n % 9}" for n in range(60)]}
    columns = ("Gerät", "价格", "серия", "kind", "Kind!", "2nd page")
    values = {column: ["ab"[n % 2] for n in range(60)] for column in columns}
    pl.DataFrame({"at": at} | ids | values).write_parquet(tmp_path / "log.parquet")
    text = draft("x", tmp_path / "log.parquet")
    load_all_proposed(text, tmp_path / "x.toml")
    features = load(tmp_path / "x.toml").features
    assert sorted(f.column for f in features.values() if f.kind == "category") == sorted(columns)
    assert features["gerat"].column == "Gerät"


@pytest.mark.parametrize(
    ("name", "text", "advice"),
    [
        ("a.json", '[{"user_id": "u1"}]', r"line 1 is not a JSON object: a list\. .*jq -c"),
        ("a.csv", "user_id,item_id,at\n", r"a\.csv has none\. Export it again"),
    ],
)
def test_a_log_without_records_is_an_error_that_says_why(tmp_path, name, text, advice):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadData, match=advice):
        draft("x", tmp_path / name)


def test_what_is_the_same_in_every_event_of_an_item_describes_the_item(tmp_path):
    at = [f"2024-03-05T{10 + n // 60}:{n % 60:02}:00Z" for n in range(400)]
    sizes = {"user_id": 25, "item_id": 40, "brand": 8, "page": 7}
    columns = {name: [f"{name}{n % size}" for n in range(400)] for name, size in sizes.items()}
    rows = pl.DataFrame({"at": at} | columns)
    rows.write_parquet(tmp_path / "log.parquet")
    (tmp_path / "x.toml").write_text(draft("x", tmp_path / "log.parquet"))
    assert "page" in load(tmp_path / "x.toml").features
    assert "brand" not in load(tmp_path / "x.toml").features
    assert "# Left out: the same in every event of an item" in (tmp_path / "x.toml").read_text()
    # Of items that hardly come again nobody can tell
    rows.head(45).write_parquet(tmp_path / "log.parquet")
    assert "the same in every event" not in draft("x", tmp_path / "log.parquet")


def test_nested_keys_are_refused_with_what_makes_columns_of_them(tmp_path):
    rows = [{"user": {"id": "u1", "age": 7}, "item": {"id": "i1"}, "at": "2024-03-05T10:00:00Z"}]
    pl.DataFrame(rows).write_ndjson(tmp_path / "log.jsonl")
    with pytest.raises(UsageError, match=r"'user\.id' is nested\. .*partition` makes a column of"):
        draft("x", tmp_path / "log.jsonl")

    laid_out = f"{tmp_path}/events/dt={{date}}/"
    partition([str(tmp_path / "log.jsonl")], laid_out, Layout(time="at"))
    (tmp_path / "x.toml").write_text(draft("x", tmp_path / "events"))
    pipeline = load(tmp_path / "x.toml")
    assert (pipeline.columns.user, pipeline.columns.item) == ("user.id", "item.id")
    assert not not_ok(tmp_path / "x.toml")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"event": "none_yet"}, "event must be one value .* 'none_yet' is empty.*--event none"),
        ({"user": "none_yet"}, "user must be one value .* 'none_yet' is empty"),
        ({"event": "tags"}, r"'tags' holds \[\['a', 'b'\]\]\. .*Name another column"),
        ({"item": "tags"}, "item must be one value .* 'tags' holds"),
        ({"user": "item", "item": "item"}, "--user and --item name the same column, 'item'"),
        (
            {"time": "name"},
            r"A time must be .*'name' contains \['Ann'\]\. Name another column with --time",
        ),
    ],
)
def test_a_column_that_cannot_have_the_role_is_refused(tmp_path, given, why):
    rows = {
        "user": ["u1", "u2"],
        "item": ["i1", "i1"],
        "at": ["2024-03-05T10:00:00Z", "2024-03-06T10:00:00Z"],
        "name": ["Ann", "Bob"],
        "none_yet": pl.Series([None, None], dtype=pl.String),
        "tags": [["a", "b"], ["a"]],
    }
    pl.DataFrame(rows).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(UsageError, match=why):
        draft("x", tmp_path / "log.parquet", given=given, ask=lambda proposal: proposal.column)


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_old_files_with_other_columns_are_left_out_with_a_word(tmp_path, ending, capsys):
    for day, user in (("2024-13-45", "user_id"), ("2024-03-01", "uid"), ("2024-03-02", "user_id")):
        folder = tmp_path / "events" / f"dt={day}"
        folder.mkdir(parents=True)
        day = "2024-03-01" if "13" in day else day
        times = [f"{day}T10:00:{n:02}Z" for n in range(40)]
        rows = {user: [n % 7 for n in range(40)], "item_id": [n % 5 for n in range(40)]}
        rows = pl.DataFrame({**rows, "at": times})
        write = {"csv": rows.write_csv, "jsonl": rows.write_ndjson, "parquet": rows.write_parquet}
        write[ending](folder / f"a.{ending}")
    text = draft("x", tmp_path / "events", given={"user": "user_id", "event": None})
    assert 'user = "user_id"' in text
    actual = capsys.readouterr().err
    assert f"1 of 3 files: {tmp_path}/events/dt=2024-03-01/a.{ending} has no 'user_id'." in actual


def test_a_column_that_is_not_there_is_named_and_one_that_is_not_clear_is_asked_for(tmp_path):
    rows = {"a": [1, 2], "b": [2, 2], "at": ["2024-03-05", "2024-03-06"], "weight": [0.5, 0.7]}
    log = tmp_path / "a.parquet"
    pl.DataFrame(rows).write_parquet(log)
    with pytest.raises(UsageError, match=r"user: a \(1, 2\) or b \(2\)\? .*--user COLUMN"):
        draft("x", log)
    with pytest.raises(
        UsageError, match=r"--user must name .* no 'wieght'\. .* a, .* mean 'weight'"
    ):
        draft("x", log, given={"user": "wieght"})
    text = draft("x", log, given={"user": "b"}, ask=lambda proposal: proposal.column)
    assert 'user = "b"\nitem = "a"\ntime = "at"\n' in text
    pl.DataFrame(rows).drop("at").write_parquet(log)
    with pytest.raises(UsageError, match=r"No column .* looks like the time\. .* a, b, weight"):
        draft("x", log, given={"user": "b", "item": "a"})


MOVIES = {
    "userId": [n % 50 for n in range(1000)],
    "movieId": [n % 200 for n in range(1000)],
    "timestamp": [1_500_000_000 + n for n in range(1000)],
    "rating": [n % 5 for n in range(1000)],
    "page": [f"p{n % 3}" for n in range(1000)],
    "seconds": [n * 0.5 for n in range(1000)],
}


def test_a_draft_proposes_what_is_known_before_the_click_and_says_why_it_left_the_rest(tmp_path):
    for folder in ("logs/events/dt=2017-07-14", "logs/movies", "logs/people", "pipelines"):
        (tmp_path / folder).mkdir(parents=True)
    pl.DataFrame(MOVIES).write_parquet(tmp_path / "logs/events/dt=2017-07-14/a.parquet")
    genres = ["Drama", "Crime", "War", "Film-Noir", "Comedy"]
    of_film = ["|".join(genres[i] for i in range(5) if (n >> i) & 1) for n in range(200)]
    films = {"movieId": range(200), "genres": [names or "Drama" for names in of_film]}
    films |= {name: [f"{n % k}" for n in range(200)] for name, k in (("imdb_id", 7), ("class", 3))}
    pl.DataFrame(films).write_parquet(tmp_path / "logs/movies/a.parquet")
    people = {"userId": range(50), "age": [20 + n % 40 for n in range(50)], "page": ["a", "b"] * 25}
    pl.DataFrame(people | {"nothing": ["x"] * 50}).write_parquet(tmp_path / "logs/people/a.parquet")
    logs = (tmp_path / "logs" / name for name in ("events", "movies", "people"))
    text = draft("films", *logs, home=tmp_path / "pipelines")
    (tmp_path / "pipelines/films.toml").write_text(text)
    p = load(tmp_path / "pipelines/films.toml")
    assert 'events = "../logs/events/dt={date}/"' in text
    assert '# reward = "rating"' in text and '# label = "rating"' in text
    assert p.features["genres"].kind == "categories" and p.features["genres"].separator == "|"
    assert p.features["items_class"].column == "class", "Python has a keyword of this name"
    assert p.features["age"].kind == "number" and p.features["age"].source_table == "users"
    assert p.features["page"].tower == "query" and p.features["users_page"].source_table == "users"
    assert not {"rating", "seconds", "imdb_id", "nothing"} & p.features.keys()
    reasons = {"rating": "outcome", "seconds": "outcome", "imdb_id": "an id"}
    for name, reason in (reasons | {"nothing": "one value"}).items():
        before, marker, _ = text.partition(f"# [features.{name}]\n")
        assert marker and reason in before.splitlines()[-1], name
    proposed = load_all_proposed(text, tmp_path / "pipelines/all.toml")
    assert proposed >= p.features.keys() | {"rating", "nothing"}


def load_all_proposed(text: str, path: Path) -> set[str]:
    """Names of the features when every block that is commented out is taken in."""
    path.write_text(re.sub(r"^# (?=\[|tower|from|kind|column|log|days)", "", text, flags=re.M))
    return set(load(path).features)


def test_a_file_of_unknown_ending_is_to_be_laid_out_first(tmp_path):
    (tmp_path / "u.data").write_text("1\t2\t3\n")
    with pytest.raises(UsageError, match=r"twinspire partition \S+u\.data --format csv"):
        draft("x", tmp_path / "u.data")


@pytest.mark.parametrize("seed", range(4))
def test_the_drafted_limit_of_rejected_records_holds_on_every_day(tmp_path, seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(40, 200, 30)
    at = [f"2024-03-{day + 1:02}T10:00:00Z" for day, size in enumerate(sizes) for _ in range(size)]
    lacks = rng.random(len(at)) < 0.025
    user = [None if lack else f"u{n % 37}" for n, lack in enumerate(lacks)]
    rows = {"user_id": user, "item_id": [f"i{n % 23}" for n in range(len(at))], "at": at}
    pl.DataFrame(rows).write_parquet(tmp_path / "log.parquet")
    (tmp_path / "x.toml").write_text(draft("x", tmp_path / "log.parquet"))
    worst = pl.DataFrame({"at": at, "lacks": lacks}).group_by("at").agg(pl.col("lacks").mean())
    limit = load(tmp_path / "x.toml").source.max_rejected
    assert worst["lacks"].max() <= limit < 0.25
