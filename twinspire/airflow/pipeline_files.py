"""Reads what Airflow needs of pipeline files: the table `[pipeline]`, and of `source.events` the folder
of the logs.
"""

import os
import re
import tomllib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.exceptions import AirflowTimetableInvalid
from airflow.timetables.interval import CronDataIntervalTimetable

RETRIES = 3
"""How often a task is tried again, if the pipeline file does not say it."""
# As in twinspire_core/config/tables/deployment.py, which Airflow's environment cannot import
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,99}")
_DURATION = re.compile(r"(\d+)\s*([smhd])")
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_BUCKET = re.compile(r"(gs|s3|az)://[a-z0-9][a-z0-9._-]*(/|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommender:
    """What Airflow needs of a pipeline file.

    Attributes:
      file: absolute path of the pipeline file.
      name: id of its DAG.
      zone: IANA name of its time zone.
      timetable: one run a day, whose data interval is that day in the pipeline's time zone.
      deadline: a scheduled run that takes longer is late; None if no run is ever late.
      retries: how often a task with exit code 75 is tried again.
      logs: URI of the folder that holds the folders of days; None if it depends on variables.
    """

    file: Path
    name: str
    zone: str
    timetable: CronDataIntervalTimetable
    retries: int
    logs: str | None = None
    deadline: timedelta | None = None


def folder(dag_file: str) -> Path:
    """The folder `$TWINSPIRE_PIPELINES`, or `pipelines/` next to the folder of a DAG file."""
    return Path(
        os.environ.get("TWINSPIRE_PIPELINES") or Path(dag_file).parents[1] / "pipelines"
    ).absolute()


def read(where: Path) -> tuple[list[Recommender], list[str]]:
    """Reads all pipeline files.

    Returns: the recommenders in the order of their names, and a sentence for each broken file.
    """
    by_name: dict[str, Recommender] = {}
    problems = []
    for file in sorted(where.glob("*.toml")):
        try:
            recommender = read_file(file)
            if other := by_name.get(recommender.name):
                raise ValueError(
                    f"{file}: [pipeline] name must be unique; {other.file.name} has {other.name!r}, too."
                )
            by_name[recommender.name] = recommender
        except ValueError as e:
            # Collected: an error here would take the DAGs of all other files away.
            problems.append(str(e))
    return [by_name[name] for name in sorted(by_name)], problems


def read_file(file: Path) -> Recommender:
    """Reads a pipeline file.

    Raises:
      ValueError: it has an error, or cannot be read.
    """
    try:
        return _recommender(file)
    except OSError as e:  # its own text names the file
        raise ValueError(f"{file}: {e.strerror or e}.") from e
    except ValueError as e:
        raise ValueError(f"{file}: {e}.") from e


def _recommender(file: Path) -> Recommender:
    tables = tomllib.loads(file.read_text())
    header = tables.get("pipeline")
    if not isinstance(header, dict):
        raise ValueError("the table [pipeline] is missing; write it first in the file")
    name, retries = header.get("name"), header.get("retries", RETRIES)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            "[pipeline] name must be a letter, then letters, digits, - or _, all lower-case, at most 100;"
            f" found {name!r}"
        )
    # Not isinstance, to which `true` is an integer, too.
    if type(retries) is not int or retries < 0:
        raise ValueError(f"[pipeline] retries must be a whole number, 0 or more; found {retries!r}")
    return Recommender(
        file=file,
        name=name,
        zone=header.get("time_zone", "UTC"),
        timetable=_timetable(header),
        retries=retries,
        logs=_logs(file, tables.get("source")),
        deadline=_deadline(header.get("deadline")),
    )


def _logs(file: Path, source: object) -> str | None:
    """The folder of the logs, if the file says it. The commands report what is wrong with it."""
    events = source.get("events") if isinstance(source, dict) else None
    if not isinstance(events, str) or "${" in events:  # only the stages have these variables
        return None
    place = events.partition("{date}")[0].rpartition("/")[0]
    if _BUCKET.match(place):
        return place
    return None if "://" in place else (file.parent / place).resolve().as_uri()


def _deadline(value: object) -> timedelta | None:
    if value is None:
        return None
    parsed = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not parsed:
        raise ValueError(
            f"[pipeline] deadline must be a number with a unit (90s, 15m, 6h, 2d); found {value!r}"
        )
    return int(parsed[1]) * _UNITS[parsed[2]]


def _timetable(header: dict[str, Any]) -> CronDataIntervalTimetable:
    schedule, zone = header.get("schedule", "0 0 * * *"), header.get("time_zone", "UTC")
    if not isinstance(schedule, str) or len(schedule.split()) != 5:
        raise ValueError(
            "[pipeline] schedule must be a cron line of five fields, such as '0 0 * * *'; found"
            f" {schedule!r}"
        )
    try:
        timetable = CronDataIntervalTimetable(schedule, timezone=zone)
        timetable.validate()
    except AirflowTimetableInvalid as e:
        raise ValueError(f"[pipeline] schedule must be a cron line; found {schedule!r}: {e}") from e
    except (TypeError, ValueError, LookupError) as e:
        raise ValueError(
            f"[pipeline] time_zone must be an IANA name, such as 'Europe/Berlin'; found {zone!r}"
        ) from e
    return timetable
