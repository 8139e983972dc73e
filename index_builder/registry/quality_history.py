"""What was measured of versions: of each on held-out users, and by the next day's run on all of
that day.
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date

from index_builder.registry.version_log import Entry, State, parents, version_date
from index_builder.registry.versions import Versions
from twinspire_core.contracts.day_metrics import DayMetrics, HeldOutMeasures
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.measures import Measures, value_of

_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class NextDay:
    """A version on the next day that was run, before anything was trained on that day.

    Attributes:
      version: the one published of that day, whose metrics.json has the figures.
      measures: of the version's two-tower.
      mix: of its mix of sources; None if it has none.
      ranked: of its ranker; None if it has none.
      baselines: of the lists that need no model, by name, for the same users.
    """

    version: str
    measures: Measures
    mix: Measures | None
    ranked: Measures | None
    baselines: Mapping[str, Measures]

    @property
    def day(self) -> date:
        """The day."""
        return version_date(self.version)

    def best_baseline(self, metric: str) -> tuple[str, float] | None:
        """The baseline that has most of a measure, and how much; None if none was measured."""
        values = {name: value_of(measures, metric) for name, measures in self.baselines.items()}
        known = {name: value for name, value in values.items() if value is not None}
        return max(known.items(), key=lambda item: item[1], default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionQuality:
    """All that was measured of a version.

    Attributes:
      metrics: what was measured on its day.
      gate: what the gate said.
      next_day: None until a later day was run whose parent it is.
    """

    metrics: DayMetrics
    gate: GateVerdict
    next_day: NextDay | None

    @property
    def holdout(self) -> HeldOutMeasures:
        """The version, its parent and the baselines on held-out users of its day."""
        return self.metrics.holdout


def quality_of(
    versions: Versions, log: Sequence[Entry], wanted: Collection[str], kind: str
) -> dict[str, VersionQuality]:
    """What was measured of stored versions, by version.

    Args:
      versions: of the recommender.
      log: all its entries.
      wanted: versions that are stored.
      kind: of the lists whose measures come first, whichever counted for a version
        (`DayMetrics.of_kind`).
    """
    state = State.of(log)
    next_of = dict[str, str]()
    # The next day's run measures towers, whichever version of theirs is live
    towers = {version: state.trained(version) for version in wanted}
    for version, parent in parents(log).items():
        if parent in towers.values() and parent and version not in state.pruned:
            # The nearest day; of two versions of a day, the one that came later.
            next_of[parent] = min(version, next_of.get(parent, version), key=version_date)
    with_metrics = [*{*wanted, *next_of.values()}]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(_metrics, map(versions.folder, with_metrics))
        metrics = {
            version: measured.of_kind(kind)
            for version, measured in zip(with_metrics, found, strict=True)
        }
        gates = dict(zip(wanted, pool.map(_gate, map(versions.folder, wanted)), strict=True))
    return {
        version: VersionQuality(
            metrics=metrics[version],
            gate=gates[version],
            next_day=_next_day(next_of.get(towers[version]), metrics),
        )
        for version in wanted
    }


def _next_day(version: str | None, metrics: Mapping[str, DayMetrics]) -> NextDay | None:
    if version is None:
        return None
    found = metrics[version]
    if found.progressive is None:
        return None
    return NextDay(
        version=version,
        measures=found.progressive,
        mix=found.mix.progressive,
        ranked=found.ranked_progressive,
        baselines=found.baselines,
    )


# A version may be pruned between being listed and being read: then nothing of it is known.
def _metrics(home: str) -> DayMetrics:
    return DayMetrics.find(home) or DayMetrics()


def _gate(home: str) -> GateVerdict:
    return GateVerdict.find(home) or GateVerdict()
