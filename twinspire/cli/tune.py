"""`twinspire tune`: searches for better training settings on earlier days."""

from collections.abc import Sequence
from datetime import date
from functools import partial
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from twinspire.cli.shared import (
    JsonLine,
    PipelineFile,
    days_between,
    end_with_json,
    open_pipeline,
    say,
    terminal_table,
)
from twinspire.tuning import tried_settings
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
            help="The days to compare settings on: one day, or a range such as 2017-10-01..2017-10-03.",
        ),
    ],
    trials: Annotated[
        int,
        typer.Option(
            min=1, help="How many settings to try. The first trial has the settings of the file."
        ),
    ] = 20,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="Try only this key. May be repeated. Default: all of these: "
            + "; ".join(f"`{key.name}` ({key.why})" for key in tried_settings.KEYS),
        ),
    ] = None,
    as_json: JsonLine = False,
) -> None:
    """Search for better training settings on earlier days, and print the lines to change.

    For each day, a trial trains from scratch on the window before the day. Then it measures the
    two-tower by `gate.metric` on the items that users took on the day. A trial that is worse than
    half of the earlier trials ends early. Each day of a trial takes as long as a first version.
    Start with three days and 20 trials: with one day, a gain may be chance.

    The command changes neither the file nor the registry. To continue a stopped search, type the
    same command again. To continue a finished search, type it with more --trials. If the file, the
    logs, the keys or the days differ, a new search starts.

    Judge the chosen settings on other days. On the days of the search they look better than they
    are.

    Exit code: 75 if another search of the pipeline is running.
    """
    if find_spec("optuna") is None:
        raise UsageError(
            "`twinspire tune` needs Optuna, which is not installed. Install it: pip install"
            " 'twinspire[tune]'"
        )
    from twinspire.tuning.search import open_search  # it loads Optuna

    p = open_pipeline(pipeline)
    first, dots, last = days.partition("..")
    rule = "--days must go from an earlier day to a later one"
    asked = days_between(first, last if dots else first, rule)
    chosen = tried_settings.choose(p, key or ())
    with open_search(p, chosen, asked) as search:
        before = len(search.trials())
        say(
            f"Trying {counted(trials, 'setting')} of {counted(len(chosen), 'key')} on"
            f" {counted(len(asked), 'day')}, {asked[0]} to {asked[-1]}. Done before: {before}."
        )
        try:
            search.run(trials, partial(_tell, p.gate.metric, trials, before, monotonic()))
        except KeyboardInterrupt:
            say(
                "Interrupted. Finished days are kept: type the same command again to go on from there."
            )
            raise
        _conclude(p, pipeline, search, asked, as_json)


def _tell(metric: str, most: int, before: int, began: float, trial: "Trial", number: int) -> None:
    """Prints the outcome of a trial, and how long the others will take."""
    # By the trials of this call alone: how long earlier ones took was not kept
    left = (monotonic() - began) / (number - before) * (most - number)
    outcome = trial.outcome
    if trial.days:
        figure = f"{metric} {trial.mean(metric):.{_DIGITS}f}"
        outcome = figure if outcome == "done" else f"{figure}, {outcome}"
    text = f"trial {number} of {most}: {outcome}, {trial.cpu:,.0f} s of CPU"
    say(f"{text}; about {counted(max(left / 60, 1), 'minute')} left" if left else text)


def _conclude(
    pipeline: Pipeline, file: str, search: "Search", days: Sequence[date], as_json: bool
) -> None:
    metric = pipeline.gate.metric
    ranked = _ranked(search.trials(), metric)
    out.print(terminal_table(_table(pipeline, ranked, search.present)))
    done = [trial for trial in ranked if trial.outcome == "done"]
    if not done:
        raise BadData(f"All trials failed. The first failed with: {ranked[0].outcome}")
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
    which = str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]}"
    out.print(
        f"Do not judge the change on {which}: settings look better than they are on the days on which they"
        " were chosen. Judge it on later days.",
        soft_wrap=True,
    )
    result = {
        "pipeline": pipeline.name,
        "days": list(map(str, days)),
        "metric": metric,
        "change": changed,
        "trials": [
            {
                "settings": trial.settings,
                "outcome": trial.outcome,
                metric: trial.mean(metric) if trial.days else None,
                "days": trial.days,
                "cpu": round(trial.cpu, 1),
            }
            for trial in ranked
        ],
    }
    end_with_json(result, as_json)


def _ranked(trials: "Sequence[Trial]", metric: str) -> "list[Trial]":
    """Trials of all days, then those that ended early, then those that failed; the best of each first."""
    order = {"done": 0, "ended early": 1}
    return sorted(
        trials,
        key=lambda one: (order.get(one.outcome, 2), -one.mean(metric) if one.days else 0),
    )


def _table(
    pipeline: Pipeline, ranked: "Sequence[Trial]", present: tried_settings.Settings
) -> Table:
    metric, second = pipeline.gate.metric, tried_settings.second_metric(pipeline)
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
    """Compares the best trial with the file as it is, day by day."""
    own = next((trial for trial in ranked if trial.settings == search.present), None)
    if own is None or own.outcome != "done":
        return "The values of the file could not be measured."
    better = sum(best.days[day][metric] > figures[metric] for day, figures in own.days.items())
    gain = best.mean(metric) / own.mean(metric) - 1 if own.mean(metric) else 0.0
    days = counted(len(own.days), "day")
    chance = "" if better == len(own.days) > 1 else " This may be chance: try more days."
    return (
        f"{metric} {best.mean(metric):.{_DIGITS}f} instead of {own.mean(metric):.{_DIGITS}f}"
        f" ({gain:+.1%}), better on {better} of {days}.{chance}"
    )
