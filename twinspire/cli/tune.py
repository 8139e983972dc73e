"""A search for training settings on earlier days."""

from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinspire.cli.options import JsonLine, PipelineFile, open_pipeline, parse_date
from twinspire.cli.output import end_with_json, say, terminal_table
from twinspire.tuning import tried_settings
from twinspire.tuning.tried_settings import second_metric
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.settings import toml_text
from twinspire_core.display.table import Row, Style, Table, counted, in_style, number
from twinspire_core.errors import BadData, UsageError
from twinspire_core.terminal import out

if TYPE_CHECKING:
    from twinspire.tuning.search import Search, Trial

_DIGITS = 4


def tune(
    pipeline: PipelineFile,
    days: Annotated[
        str,
        typer.Option(
            metavar="FROM..TO",
            help="Earlier days to compare settings on, as 2017-10-01..2017-10-03; or one day.",
        ),
    ],
    trials: Annotated[
        int,
        typer.Option(min=1, help="How many settings to try in all, beginning with the file's own."),
    ] = 20,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="Try this key only; may be repeated. By default all: "
            + "; ".join(f"`{key.name}` ({key.why})" for key in tried_settings.KEYS),
        ),
    ] = None,
    as_json: JsonLine = False,
) -> None:
    """Search for better training settings on earlier days; print the lines to change.

    For each of the days, each trial trains from scratch on the window before the day and is measured
    on what users took on it, as `twinspire run` does for a first version: the figure is `gate.metric`
    of the two-tower. The first trial is the file as it is. A trial that is worse than half of those
    before it ends early, before its last day. Each day of a trial costs as much as a first version.
    Three days and 20 trials are a good start; one day cannot tell a gain from chance.

    Nothing is changed: neither the file nor the registry. State is kept in
    WORK_ROOT/PIPELINE/tuning, so that the same command goes on after a stop, and with more --trials
    after its end. Another file, other logs, keys or days begin another search.

    The days are development days from then on: on them the chosen settings look better than they are.

    Exit code 75 while another search of the pipeline is under way.
    """
    if find_spec("optuna") is None:
        raise UsageError(
            "Settings are searched for with Optuna, which is not installed. Install it: pip install"
            " 'twinspire[tune]'"
        )
    from twinspire.tuning.search import open_search  # it loads Optuna

    p = open_pipeline(pipeline)
    chosen, asked = tried_settings.choose(p, key or ()), _days(days)
    with open_search(p, chosen, asked) as search:
        before = len(search.trials())
        say(
            f"Trying {counted(trials, 'setting')} of {counted(len(chosen), 'key')} on"
            f" {counted(len(asked), 'day')}, {asked[0]} to {asked[-1]}. Done before: {before}."
        )
        try:
            search.run(trials, partial(_tell, p.gate.metric, trials, before, monotonic()))
        except KeyboardInterrupt:
            say("Interrupted. What is done is kept: the same command goes on from there.")
            raise
        _conclude(p, pipeline, search, asked, as_json)


def _days(text: str) -> list[date]:
    first, dots, last = text.partition("..")
    start, end = parse_date(first), parse_date(last if dots else first)
    if end < start:
        raise UsageError(
            f"--days goes from an earlier day to a later one; found {text}. Write the earlier one first."
        )
    return [start + timedelta(days=n) for n in range((end - start).days + 1)]


def _tell(metric: str, most: int, before: int, began: float, trial: "Trial", number: int) -> None:
    """Tells of a trial, and how long the others will take."""
    left = (monotonic() - began) / (number - before) * (most - number)
    found = trial.outcome
    if trial.days:
        figure = f"{metric} {trial.mean(metric):.{_DIGITS}f}"
        found = figure if found == "done" else f"{figure}, {found}"
    tried = f"trial {number} of {most}: {found}, {trial.cpu:,.0f} s of CPU"
    say(f"{tried}; about {counted(max(left / 60, 1), 'minute')} left" if left else tried)


def _conclude(
    pipeline: Pipeline, file: str, search: "Search", days: Sequence[date], as_json: bool
) -> None:
    metric = pipeline.gate.metric
    ranked = _ranked(search.trials(), metric)
    out.print(terminal_table(_table(pipeline, ranked, search.present)))
    done = [trial for trial in ranked if trial.outcome == "done"]
    if not done:
        raise BadData(
            f"A search needs a trial that ends; all failed. The first: {ranked[0].outcome}"
        )
    best = done[0]
    changed = tried_settings.changes(best.settings, search.present)
    if changed:
        out.print(_gain(best, ranked, search, metric), soft_wrap=True)
        out.print(f"The lines of {file} to change:\n", soft_wrap=True)
        for line in tried_settings.toml_lines(changed, search.present):
            out.print(line, soft_wrap=True)
        out.print()
    else:
        out.print("No setting that was tried is better than the file's.")
    which = f"{days[0]} to {days[-1]} are development days"
    if len(days) == 1:
        which = f"{days[0]} is a development day"
    out.print(
        f"{which} from now on: settings that were chosen there look better there than they are. Judge"
        " a change on later days.",
        soft_wrap=True,
    )
    told = {"pipeline": pipeline.name, "days": list(map(str, days)), "metric": metric}
    trials = [_as_json(trial, metric) for trial in ranked]
    end_with_json({**told, "change": changed, "trials": trials}, as_json)


def _ranked(trials: "Sequence[Trial]", metric: str) -> "list[Trial]":
    """Trials of all days first, then those that ended early, the best of each first."""
    order = {"done": 0, "ended early": 1}
    return sorted(
        trials,
        key=lambda one: (order.get(one.outcome, 2), -one.mean(metric) if one.days else 0),
    )


def _table(
    pipeline: Pipeline, ranked: "Sequence[Trial]", present: tried_settings.Settings
) -> Table:
    metric, second = pipeline.gate.metric, second_metric(pipeline)
    rows: list[Row] = []
    for trial in ranked:
        cells = ["–"] * 3
        if trial.days:
            cells = [
                number(trial.mean(metric), _DIGITS),
                number(trial.spread(metric), _DIGITS),
                number(trial.mean(second), _DIGITS),
            ]
        changed = tried_settings.changes(trial.settings, present)
        words = ", ".join(f"{name} = {toml_text(value)}" for name, value in changed.items())
        what = words or "the file as it is"
        if trial.outcome != "done":
            what = f"{'failed' if trial.failed else trial.outcome}: {what}"
        row = [what, *cells, str(len(trial.days)), f"{trial.cpu:,.0f}"]
        rows.append(row if trial.outcome == "done" else in_style(row, Style.DIM))
    return Table(
        head=["setting", metric, "± over days", second, "days", "CPU s"],
        rows=rows,
        note=" ".join({trial.outcome: None for trial in ranked if trial.failed}),
        names=(),
        prose=(0,),
    )


def _gain(best: "Trial", ranked: "Sequence[Trial]", search: "Search", metric: str) -> str:
    """How the best trial compares with the file as it is, day by day."""
    own = next((trial for trial in ranked if trial.settings == search.present), None)
    if own is None or own.outcome != "done":
        return "The file's own values could not be measured."
    better = sum(best.days[day][metric] > figures[metric] for day, figures in own.days.items())
    gain = best.mean(metric) / own.mean(metric) - 1 if own.mean(metric) else 0.0
    days = counted(len(own.days), "day")
    chance = "" if better == len(own.days) > 1 else " That may be chance: try more days."
    return (
        f"{metric} {best.mean(metric):.{_DIGITS}f} instead of {own.mean(metric):.{_DIGITS}f}"
        f" ({gain:+.1%}), better on {better} of {days}.{chance}"
    )


def _as_json(trial: "Trial", metric: str) -> dict[str, Any]:
    return {
        "settings": trial.settings,
        "outcome": trial.outcome,
        metric: trial.mean(metric) if trial.days else None,
        "days": trial.days,
        "cpu": round(trial.cpu, 1),
    }
