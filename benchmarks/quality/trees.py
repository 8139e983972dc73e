"""The contender `trees`: candidates from counts and neighbours, ordered by one model of trees.

It is what a good engineer writes in a day, without towers or a blend of sources. Its rules are frozen: they were
written before the second stage, and must not be tuned later. They are:

- Candidates of a user: the 100 items with the largest decayed counts of the user's own purchases
  (half-life 60 days), the 100 most bought by all in 28 days, and 100 from the 150 most similar users.
- Rows: users who buy something on one of the 21 days before the newest Monday, as of the start of that
  day; all candidates that were bought and at most 150 others.
- LambdaMART of 200 trees, fitted each Monday, on one thread. Only groceries and the small shop.

It knows nothing of the test day or later days.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
from scipy.sparse import csr_matrix, diags

from benchmarks.quality.command import cpu_seconds
from benchmarks.quality.lists import LENGTH, popular
from benchmarks.quality.peers import filled_up
from benchmarks.quality.prepare import Fitted, Prepared

NAME = "trees"
LOGS = ("groceries", "small-shop")
CANDIDATES = 100
TREES = 200
ROW_DAYS = 21
DAYS = 280
"""Days of purchases that count."""
NEGATIVES = 150
SIMILAR = 150
HALF_LIVES = (7, 15, 30, 60, 120)
WINDOWS = (1, 7, 28, 91)
ATTRIBUTES = ("product_category", "product_type", "department")
USERS = 300
"""Users in a block, because scores by neighbours are dense."""
PARAMETERS = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 60,
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "max_bin": 127,
    "num_threads": 1,
    "verbose": -1,
}
_KEYS = ("user", "item", "label", *ATTRIBUTES)
_MICROSECONDS = 86_400_000_000


def fit(prepared: Prepared, seed: int, work: Path) -> Fitted:
    """Fits the trees of the newest Monday, unless they exist, and ranks every case's candidates.

    Args:
      prepared: one day's cases.
      seed: seed of the drawn negatives and of LightGBM.
      work: folder of each Monday's trees.
    """
    begin = cpu_seconds()
    shop = Shop.of(prepared)
    day = prepared.split.last + timedelta(days=1)
    monday = day - timedelta(days=day.weekday())
    known = prepared.split.events.filter(pl.col("_day") < monday).select("_user", "_item", "_time")
    name = f"{prepared.split.name}-{monday}-{seed}-{known.hash_rows(1).sum():x}.txt"
    model = _model(shop, monday, seed, work / NAME / name)
    users = {
        case.name: shop.users_of(prepared.queries(case)["_user"]) for case in prepared.split.cases
    }
    everybody = np.unique(np.concatenate(list(users.values())))
    ranked = _ranked(shop.before(day), model, everybody[everybody >= 0])
    lists = {}
    for case in prepared.split.cases:
        own = np.full((len(users[case.name]), LENGTH), -1, np.int64)
        for row, user in enumerate(users[case.name]):
            items = ranked.get(user, own[row, :0])[:LENGTH]
            own[row, : len(items)] = shop.place[items]
        lists[case.name] = filled_up(own, popular(prepared, case))
    return Fitted(lists, cpu_seconds() - begin)


@dataclass(frozen=True, kw_only=True)
class Shop:
    """Purchases with numbers for users and items.

    Attributes:
      events: `user`, `item`, `day`, `time` (microseconds) and the item's attributes, by numbers.
      users: ids by number.
      attributes: `item` and its attributes.
      place: [items] positions in the benchmark's catalogue.
      prepared: the split.
    """

    events: pl.DataFrame
    users: pl.Series
    attributes: pl.DataFrame
    place: np.ndarray
    prepared: Prepared

    @classmethod
    def of(cls, prepared: Prepared) -> "Shop":
        """Reads the purchases up to the last training day."""
        split = prepared.split
        known = split.events.filter(pl.col("_day") <= split.last)
        place = prepared.corpus().with_row_index("place").select("_item", "place")
        folder = split.settings["source.items"].format(date="2016-12-31")
        products = pl.read_parquet(f"{folder}/*.parquet").select(
            pl.col("product_id").cast(pl.String).alias("_item"),
            *(pl.col(name).fill_null("").rank("dense").alias(name) for name in ATTRIBUTES),
        )
        items = known.select(pl.col("_item").unique().sort()).with_row_index("item")
        items = items.join(products.unique("_item"), on="_item", how="left", maintain_order="left")
        items = items.join(place, on="_item", how="left", maintain_order="left")
        users = known.select(pl.col("_user").unique().sort()).with_row_index("user")
        events = known.join(items.drop("place"), on="_item").join(users, on="_user")
        return cls(
            events=events.select(
                pl.col("user", "item").cast(pl.Int32),
                pl.col("_day").alias("day"),
                pl.col("_time").alias("time"),
                *ATTRIBUTES,
            ),
            users=users["_user"],
            attributes=items.select(pl.col("item").cast(pl.Int32), *ATTRIBUTES),
            place=items["place"].cast(pl.Int64).fill_null(-1).to_numpy(),
            prepared=prepared,
        )

    def users_of(self, ids: pl.Series) -> np.ndarray:
        """Numbers of users, -1 for those without a purchase."""
        numbers = pl.DataFrame({"id": self.users}).with_row_index("number")
        joined = (
            ids.rename("id").to_frame().join(numbers, on="id", how="left", maintain_order="left")
        )
        return joined["number"].cast(pl.Int64).fill_null(-1).to_numpy()

    def before(self, day: date) -> "Before":
        """What is known at the start of a day."""
        start = datetime.combine(day, time(), self.prepared.pipeline.zone).timestamp() * 1e6
        past = self.events.filter(
            (pl.col("day") < day) & (pl.col("day") >= day - timedelta(days=DAYS))
        )
        age = ((start - pl.col("time")) / _MICROSECONDS).alias("age")
        return Before(shop=self, day=day, past=past.with_columns(age))


@dataclass(frozen=True, kw_only=True)
class Before:
    """Features of candidates at the start of a day.

    Attributes:
      shop: all purchases.
      day: the day.
      past: purchases of the 280 days before, with `age` in days.
    """

    shop: Shop
    day: date
    past: pl.DataFrame

    def rows(self, users: np.ndarray) -> pl.DataFrame:
        """Candidates of users with earlier purchases, with their features, by user and item."""
        asked = pl.DataFrame({"user": users.astype(np.int32)})
        mine = self.past.join(asked, on="user", how="semi")
        own = _own(mine)
        near, scores = self._neighbours(users)
        most = self._items.filter(pl.col("item_rank") <= CANDIDATES).select("item")
        both = ("user", "item")
        rows = pl.concat(
            [
                own.filter(pl.col("own_rank") <= CANDIDATES).select(both),
                asked.join(most, how="cross"),
                near,
            ]
        ).unique()
        rows = rows.sort(both)  # so that the order of equal scores never changes
        row = np.searchsorted(users, rows["user"].to_numpy())
        rows = rows.with_columns(pl.Series("near", scores[row, rows["item"].to_numpy()]))
        by_user = pl.col("near").rank("ordinal", descending=True).over("user")
        rows = rows.with_columns(by_user.alias("near_rank"))
        rows = rows.join(own, on=both, how="left").join(self._items, on="item", how="left")
        rows = rows.join(_activity(mine), on="user", how="left")
        rows = rows.join(self.shop.attributes, on="item", how="left")
        for name in ATTRIBUTES:
            rows = rows.join(_by_attribute(mine, name), on=["user", name], how="left")
            share = pl.col("own_60") / pl.col(f"{name}_weight")
            rows = rows.with_columns(share.alias(f"{name}_share"))
        weekday = pl.lit(self.day.weekday()).alias("weekday")
        return rows.with_columns(weekday).sort(both)

    def bought(self) -> pl.DataFrame:
        """`user`, `item` of the day's purchases by users with earlier purchases, and `label` 1."""
        taken = self.shop.events.filter(pl.col("day") == self.day).select("user", "item").unique()
        known = taken.join(self.past.select("user").unique(), on="user", how="semi")
        return known.with_columns(pl.lit(1, pl.Int8).alias("label"))

    @cached_property
    def _items(self) -> pl.DataFrame:
        """Popularity of items over windows, and how regularly users buy them again."""
        day = pl.col("day")
        items = self.past.group_by("item").agg(
            *((pl.col("age") < days).sum().alias(f"sold_{days}") for days in WINDOWS),
            pl.col("user").n_unique().alias("buyers"),
            pl.len().alias("sold"),
            pl.col("age").max().alias("item_age"),
        )
        items = items.sort("item").with_columns(
            (pl.col("sold_7") * 4 / (pl.col("sold_28") + 1)).alias("trend"),
            (pl.col("sold_28") * 3.25 / (pl.col("sold_91") + 1)).alias("long_trend"),
            pl.col("sold_28").rank("ordinal", descending=True).alias("item_rank"),
        )
        trips = self.past.select("user", "item", "day").unique().sort("user", "item", "day")
        gap = (day - day.shift().over("user", "item")).dt.total_days()
        again = trips.with_columns(gap.alias("gap")).group_by("item")
        regular = again.agg(
            pl.col("gap").mean().alias("item_gap"),
            (pl.col("gap").count() / pl.len()).alias("item_repeats"),
        )
        return items.join(regular, on="item", how="left")

    def _neighbours(self, users: np.ndarray) -> tuple[pl.DataFrame, np.ndarray]:
        """100 items of each user from similar ones, and [users, items] all scores."""
        vectors = self._vectors
        similar = (vectors[users] @ vectors.T).toarray()
        similar[np.arange(len(users)), users] = 0
        k = min(SIMILAR, similar.shape[1] - 1)
        top = np.argpartition(-similar, k - 1, axis=1)[:, :k]
        weight = np.take_along_axis(similar, top, 1) ** 2
        row = np.repeat(np.arange(len(users)), k)
        mean = csr_matrix((weight.ravel(), (row, top.ravel())), similar.shape) @ vectors
        scores = mean.toarray() / np.maximum(weight.sum(1, keepdims=True), 1e-9)
        best = np.argpartition(-scores, CANDIDATES, axis=1)[:, :CANDIDATES]
        near = {"user": np.repeat(users, CANDIDATES), "item": best.ravel()}
        return pl.DataFrame({n: x.astype(np.int32) for n, x in near.items()}), scores

    @cached_property
    def _vectors(self) -> csr_matrix:
        """[users, items] roots of decayed counts, normalised to length 1."""
        counts = self.past.group_by("user", "item").agg(_decayed(60).alias("count"))
        indices = counts["user"].to_numpy(), counts["item"].to_numpy()
        shape = len(self.shop.users), len(self.shop.place)
        roots = csr_matrix((np.sqrt(counts["count"].to_numpy()), indices), shape, dtype=np.float32)
        length = np.sqrt(np.asarray(roots.multiply(roots).sum(1)).ravel())
        length[length == 0] = 1
        return (diags(1 / length).astype(np.float32) @ roots).tocsr()


def _decayed(half_life: float) -> pl.Expr:
    return (0.5 ** (pl.col("age") / half_life)).sum()


def _own(mine: pl.DataFrame) -> pl.DataFrame:
    """Features of users' purchases: decayed counts, intervals, and time since the last one."""
    own = mine.group_by("user", "item").agg(
        *(_decayed(days).alias(f"own_{days}") for days in HALF_LIVES),
        pl.len().alias("own"),
        pl.col("age").min().alias("newest"),
        pl.col("age").max().alias("oldest"),
        pl.col("day").n_unique().alias("own_days"),
    )
    several = pl.col("own_days") > 1
    gap = (pl.col("oldest") - pl.col("newest")) / (pl.col("own_days") - 1)
    due = pl.col("newest") / pl.max_horizontal(gap, pl.lit(1.0))
    return own.sort("user", "item").with_columns(
        pl.when(several).then(gap).alias("gap"),
        pl.when(several).then(due).alias("due"),
        pl.col("own_60").rank("ordinal", descending=True).over("user").alias("own_rank"),
        (pl.col("own_60") / pl.col("own_60").sum().over("user")).alias("own_share"),
    )


def _activity(mine: pl.DataFrame) -> pl.DataFrame:
    users = mine.group_by("user").agg(
        pl.col("day").n_unique().alias("trips"),
        pl.col("age").min().alias("user_newest"),
        pl.col("age").max().alias("user_oldest"),
        pl.len().alias("purchases"),
        pl.col("item").n_unique().alias("items"),
    )
    span = pl.col("user_oldest") - pl.col("user_newest")
    return users.with_columns(
        (pl.col("purchases") / pl.col("trips")).alias("basket"),
        (span / pl.col("trips")).alias("user_gap"),
        (1 - pl.col("items") / pl.col("purchases")).alias("user_repeats"),
    )


def _by_attribute(mine: pl.DataFrame, name: str) -> pl.DataFrame:
    """Features of users' purchases with the same value of an attribute."""
    values = mine.group_by("user", name).agg(
        _decayed(60).alias(f"{name}_weight"),
        pl.col("age").min().alias(f"{name}_newest"),
        pl.col("age").max().alias("oldest"),
        pl.col("day").n_unique().alias(f"{name}_days"),
    )
    newest, days = pl.col(f"{name}_newest"), pl.col(f"{name}_days")
    gap = (pl.col("oldest") - newest) / (days - 1)
    due = pl.when(days > 1).then(newest / pl.max_horizontal(gap, pl.lit(1.0)))
    return values.with_columns(due.alias(f"{name}_due")).drop("oldest")


def _model(shop: Shop, monday: date, seed: int, file: Path) -> lightgbm.Booster:
    """The trees of a Monday."""
    if file.exists():
        return lightgbm.Booster(model_file=str(file))
    rng = np.random.default_rng(seed)
    days = [monday - timedelta(days=n) for n in range(ROW_DAYS, 0, -1)]
    parts = [_training_rows(shop.before(day), rng) for day in days]
    groups = [part.group_by("user", maintain_order=True).len()["len"].to_numpy() for part in parts]
    rows = pl.concat(parts)
    data = lightgbm.Dataset(_matrix(rows), rows["label"].to_numpy(), group=np.concatenate(groups))
    model = lightgbm.train({**PARAMETERS, "seed": seed}, data, TREES)
    file.parent.mkdir(parents=True, exist_ok=True)
    model.save_model(str(file))
    return model


def _training_rows(before: Before, rng: np.random.Generator) -> pl.DataFrame:
    """Candidates of users who bought one of them on the day, with 150 random negatives per user."""
    bought = before.bought()
    buyers = bought["user"].unique().sort().to_numpy()
    parts = [
        before.rows(part).join(bought, on=["user", "item"], how="left") for part in _parts(buyers)
    ]
    rows = pl.concat(parts).with_columns(pl.col("label").fill_null(0))
    rows = rows.filter(pl.col("label").sum().over("user") > 0)
    drawn = pl.Series("drawn", rng.random(len(rows))).rank("ordinal")
    order = pl.col("drawn").rank("ordinal").over("user", "label")
    kept = (pl.col("label") == 1) | (order <= NEGATIVES)
    return rows.with_columns(drawn).filter(kept).drop("drawn")


def _ranked(before: Before, model: lightgbm.Booster, users: np.ndarray) -> dict[int, np.ndarray]:
    """Items of each user, best first; nothing for users without a purchase in 280 days."""
    known = np.intersect1d(users, before.past["user"].unique().to_numpy())
    ranked = {}
    for part in _parts(known):
        rows = before.rows(part)
        score = pl.Series("score", model.predict(_matrix(rows), num_threads=1))
        best = rows.select("user", "item", score).sort(
            "score", descending=True, maintain_order=True
        )
        lists = best.group_by("user", maintain_order=True).agg("item")
        ranked |= {user: items.to_numpy() for user, items in zip(*lists, strict=True)}
    return ranked


def _parts(users: np.ndarray) -> Sequence[np.ndarray]:
    return [users[start : start + USERS] for start in range(0, len(users), USERS)]


def _matrix(rows: pl.DataFrame) -> np.ndarray:
    return rows.drop(_KEYS, strict=False).cast(pl.Float32).to_numpy()
