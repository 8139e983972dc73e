"""Whether the recommender is well, and what to do if it is not: the home page's sentences."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta

from serving.answers.live_check import Check, check_age
from serving.http.hot_swap import Served
from serving.http.service import Service
from serving.inspector.registry_reader import Reading
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.display.served_figure import ServedFigure
from twinspire_core.display.table import Style
from twinspire_core.errors import listed


def find_problems(
    service: Service, served: Served | None, reading: Reading, now: datetime
) -> list[Check]:
    """What is wrong, the most urgent first."""
    checks = [*_of_server(service, served, reading)]
    if served:
        live = served.version.id
        checks += [_age(service.pipeline, live, reading, now), *reading.lists.get(live, ())]
    checks += _of_newest_day(reading)
    return [check for check in checks if check.problem]


def _of_server(service: Service, served: Served | None, reading: Reading) -> Iterator[Check]:
    failure = service.live.failure
    if failure and failure["version"]:
        answers = f"{served.version.id} keeps answering" if served else "nothing answers"
        yield Check(
            f"{failure['version']} is live, but this server cannot load it, and {answers}:"
            f" {failure['error']}",
            "the live version cannot be loaded",
            "Go back to the version before",
            "twinspire rollback PIPELINE",
        )
    if error := reading.error or (failure and not failure["version"] and failure["error"]):
        yield Check(
            f"What this page shows may be old. The registry cannot be read: {error}",
            "the registry cannot be read",
            "See whether its folder can be reached",
            "twinspire doctor PIPELINE",
        )
    elif not (served or failure or service.live.loading):
        yield Check(
            f"No version of {service.pipeline.name} answers yet: none is live",
            "no version is live",
            "Make one",
            "twinspire run PIPELINE",
        )


def _age(pipeline: Pipeline, live: str, reading: Reading, now: datetime) -> Check:
    check = check_age(pipeline, live, now)
    days = days_without_version(reading)
    if not check.problem or not days:
        return check
    span = f"--date {days[0]}" if len(days) == 1 else f"--from {days[0]} --to {days[-1]}"
    remedy = "Its logs are there. Run the days since"
    return check._replace(remedy=remedy, command=f"twinspire run PIPELINE {span}")


def days_without_version(reading: Reading) -> list[date]:
    """The days after the newest version's, up to the newest day with logs."""
    newest, logs = reading.trained, reading.logs
    if newest is None or logs is None:
        return []
    return [newest.date + timedelta(days=n + 1) for n in range((logs - newest.date).days)]


def _of_newest_day(reading: Reading) -> Iterator[Check]:
    newest = reading.trained
    if newest and newest.status == "refused":
        yield Check(
            f"The gate refused {newest.version}: {newest.reason}",
            "the gate refused the newest day",
            "See its figures",
            f"twinspire show PIPELINE {newest.version}",
        )
    figure = reading.days[-1].served if reading.days else None
    if figure and figure.change.high is not None and figure.change.high < 0:
        yield Check(
            f"The lists served on {figure.day} were {figure.change_text}: {figure.values_text}",
            "served lists are worse than a simple list",
            "See all lists of the day",
            f"twinspire summary PIPELINE --date {figure.day}",
        )
    if newest and reading.anomalies:
        yield Check(
            f"The data of {newest.date} is unusual: {listed(reading.anomalies, 3, '; ')}",
            "the newest data is unusual",
            "See its report",
            f"twinspire report PIPELINE {newest.version} --open",
        )


def first_sentence(
    service: Service, served: Served | None, reading: Reading, problems: Sequence[Check]
) -> tuple[Style, str, str]:
    """The look, the state, and the sentence that the page begins with."""
    if problems:
        *names, last = [check.problem for check in problems]
        text = f"{', '.join(names)} and {last}." if names else f"{last}."
        return Style.BAD, "Needs attention:", text
    if served is None:
        text = f"No version of {service.pipeline.name} answers yet: {service.waiting()}."
        return Style.WARNING, "Starting:", text
    measured = "Its lists have not been measured yet."
    if figure := served_figure(service.pipeline, served, reading):
        users = "to held-out users of" if figure.held_out else "on"
        measured = f"Lists served {users} {day_text(figure.day)}: {figure.change_text}."
    day = day_text(served.version.manifest.date)
    return Style.GOOD, "Well:", f"the version of {day} is live. {measured}"


def served_figure(
    pipeline: Pipeline, served: Served | None, reading: Reading
) -> ServedFigure | None:
    """What was served on the last day; before one is measured, the live version on held-out users."""
    if reading.days:
        return reading.days[-1].served
    quality = served and reading.qualities.get(served.version.id)
    return quality.in_front(pipeline.gate.metric) if quality else None


def day_text(day: date) -> str:
    """A day: 2 Dec 2026."""
    return f"{day:%-d %b %Y}"


def moment(pipeline: Pipeline, at: datetime) -> str:
    """A time in the pipeline's zone: 2 Dec 2026, 03:10 CET."""
    return f"{at.astimezone(pipeline.zone):%-d %b %Y, %H:%M %Z}"
