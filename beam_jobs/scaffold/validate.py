"""Checks a pipeline file against real data in seconds: does each column exist, and hold what the
file says?
"""

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import polars as pl

from beam_jobs.partitioning.log_tables import read
from twinspire_core import storage
from twinspire_core.config.feature_kinds import AgeFeature, CategoriesFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData

_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One column looked at.

    Attributes:
      use: what the pipeline file uses it for.
      ok: whether it can be used.
      found: what is there, in words.
    """

    table: str
    column: str
    use: str
    ok: bool
    found: str


def validate(pipeline: Pipeline, day: date, scratch: Path) -> list[Finding]:
    """Looks at the first rows of the day's events and of the newest snapshots.

    Args:
      pipeline: the parsed file.
      day: a day whose events are there.
      scratch: folder for files that have to be downloaded.

    Raises:
      BadData: a declared table has no files.
    """
    findings: list[Finding] = []
    for table, template in (
        ("events", pipeline.source.events),
        ("items", pipeline.source.items),
        ("users", pipeline.source.users),
    ):
        if template is None:
            continue
        rows = _first_rows(pipeline, table, template, day, scratch)
        cut = {
            f"features.{n} (categories)": f.separator
            for n, f in pipeline.of_kind(CategoriesFeature).items()
        }
        found = [
            _look(rows, table, column, use, cut.get(use)) for use, column in _uses(pipeline, table)
        ]
        findings += [
            _in_range(pipeline, rows, one) if one.use == "label" and one.ok else one
            for one in found
        ]
    return findings


def _uses(pipeline: Pipeline, table: str) -> list[tuple[str, str]]:
    columns = pipeline.columns
    keys = {
        "events": {"user": columns.user, "item": columns.item, "time": columns.time},
        "items": {"item": columns.items_key or columns.item},
        "users": {"user": columns.users_key or columns.user},
    }[table]
    if table == "events":
        optional = {"reward": columns.reward, "label": columns.label, "event": columns.event}
        keys |= {k: v for k, v in optional.items() if v}
    uses = [*keys.items()]
    for name, column in pipeline.columns_of(table).items():
        uses.append((f"features.{name} ({pipeline.features[name].kind})", column))
    if table == "items":
        uses += [
            (f"features.{n} (age)", f.column)
            for n, f in pipeline.of_kind(AgeFeature).items()
            if f.column
        ]
        shown = [
            ("corpus.display", pipeline.corpus.display),
            ("corpus.attributes", pipeline.corpus.attributes),
        ]
        uses += [
            (use, column)
            for use, names in [*shown, ("corpus.filter", pipeline.corpus.filter)]
            for column in names
        ]
    return uses


def _look(
    rows: pl.DataFrame, table: str, column: str, use: str, separator: str | None = None
) -> Finding:
    if column not in rows.columns:
        return Finding(
            table, column, use, False, f"no such column; there are: {', '.join(rows.columns)}"
        )
    values = rows[column]
    nulls, kind = values.null_count() / max(1, len(values)), values.dtype
    distinct = values.n_unique() if not kind.is_nested() else "?"
    words = f"{kind}, {distinct} values in {len(values)} rows, {nulls:.0%} missing"
    if use.endswith("(categories)") and kind == pl.String and not separator:
        return Finding(
            table,
            column,
            use,
            False,
            f"{words}; categories in a string need the feature's separator, or a list column",
        )
    wanted = {
        "number": kind.is_numeric(),
        "vector": kind.is_nested(),
        "reward": kind.is_numeric(),
        "label": _is_number(kind),
    }
    role = use.rsplit("(", 1)[-1].rstrip(")")
    key = use in ("user", "item", "time")
    ok = wanted.get(role, True) and not (
        key and (kind.is_nested() or kind.is_float() or nulls > 0.5)
    )
    return Finding(table, column, use, ok, words if ok else f"{words}; cannot be used as {role}")


def _is_number(kind: pl.DataType) -> bool:
    return kind.is_numeric() or kind in (pl.Boolean, pl.Null)


def _in_range(pipeline: Pipeline, rows: pl.DataFrame, label: Finding) -> Finding:
    """The finding again, with what the loss of `train.auxiliary` thinks of the labels."""
    auxiliary, values = (
        pipeline.train.auxiliary,
        rows[label.column].cast(pl.Float64).drop_nans().drop_nulls(),
    )
    wrong = values.filter((values < 0) | (values > 1))
    if not auxiliary.weight or auxiliary.loss != "logistic" or wrong.is_empty():
        return label
    words = (
        f'{label.found}; found {wrong[0]:g}, and train.auxiliary.loss = "logistic" takes labels'
        " from 0 to 1"
    )
    return replace(label, ok=False, found=words)


def _first_rows(
    pipeline: Pipeline, table: str, template: str, day: date, scratch: Path
) -> pl.DataFrame:
    head, _, _ = template.partition("{date}")
    folder, _, prefix = head.rpartition("/")
    days = [n.removeprefix(prefix) for n in storage.list_names(folder) if n.startswith(prefix)]
    earlier = sorted(d for d in days if d <= str(day)) if table != "events" else [str(day)]
    files = storage.list_files(template.replace("{date}", earlier[-1])) if earlier else []
    files = [file for file in files if not file.path.startswith(("_", "."))]
    if not files:
        raise BadData(
            f"source.{table} has no files for {day} at {template}; days there:"
            f" {', '.join([*days[:2], '…', *days[-2:]]) if len(days) > 4 else ', '.join(days) or 'none'}."
            " Lay the raw files out with `twinspire partition`, or choose another --date."
        )
    file = storage.localize(files[0].uri, scratch)
    return pl.DataFrame(
        next(read(file, lambda malformed: None, pipeline.source.format)).slice(0, _ROWS)
    )
