"""The page: its parts in order, and what stands above them."""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template

from index_builder.report import changes, day_data, examples, quality, search, training, trend
from index_builder.report.evaluation_sets import called
from index_builder.report.facts import Facts
from index_builder.report.report_blocks import Card, count, number, share
from twinspire_core.contracts.measures import value_of

_PARTS = (
    trend.trend,
    changes.verdict,
    quality.sources,
    quality.lists,
    quality.slices,
    examples.examples,
    changes.changes,
    training.popularity,
    training.frequency,
    training.learning,
    search.search,
    day_data.data,
    changes.origin,
)


def render(facts: Facts) -> bytes:
    """The report: one HTML page that needs nothing else."""
    page = _template().render(
        title=f"{facts.manifest.pipeline}, {facts.manifest.date}",
        pipeline=facts.manifest.pipeline,
        day=f"{facts.manifest.date:%A, %-d %B %Y}",
        version=facts.manifest.version,
        accepted=facts.gate.accepted,
        cards=list(_cards(facts)),
        parts=[part(facts) for part in _PARTS],
        css=files(__package__).joinpath("page.css").read_text(),
    )
    return page.encode()


@cache
def _template() -> Template:
    # Names of items, users and reasons come from logs: all is escaped but the SVG, which charts.py
    # makes.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(files(__package__).joinpath("page.html.jinja").read_text())


def _cards(facts: Facts) -> Iterator[Card]:
    held = facts.metrics.holdout
    on_the_day = facts.metrics.progressive
    yield Card(
        f"{facts.metric} on the day, by the version of the day before",
        number(value_of(on_the_day, facts.metric)),
        _beside(facts) if on_the_day else "no version was there before",
    )
    yield Card(
        f"{facts.metric} of held-out users, this version",
        number(value_of(held.candidate, facts.metric)),
        f"{changes.change_from_baseline(facts)} from {number(held.baseline.value(facts.metric))}"
        if held.baseline
        else "nothing to compare with",
    )
    coverage = value_of(held.candidate, f"coverage@{facts.k}")
    yield Card(
        f"items reached, first {facts.k}",
        share(coverage),
        f"of {count(facts.manifest.items)} in the catalogue",
    )
    yield Card(
        f"index recall at {facts.index.k}",
        number(facts.index.recall, 4),
        f"{facts.index.recall_target} asked for",
    )


def _beside(facts: Facts) -> str:
    """What to hold the two-tower's figure against: the mix that it is a part of, the best
    baseline.
    """
    fused = facts.metrics.mix.progressive
    own = f"its mix {number(fused.value(facts.metric))}; " if fused else ""
    return own + _best_baseline(facts)


def _best_baseline(facts: Facts) -> str:
    baselines = facts.metrics.baselines
    values = [(measures.value(facts.metric), name) for name, measures in baselines.items()]
    known = [(value, name) for value, name in values if value is not None]
    if not known:
        return "no baseline was measured"
    value, name = max(known)
    return f"{called(name)}, the best baseline: {number(value)}"
