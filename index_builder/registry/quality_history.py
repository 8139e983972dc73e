"""What was measured of versions: of each on held-out users, and by the next day's run on all of
that day.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any

from index_builder.registry.version_log import Entry, State, parents, version_date
from index_builder.registry.versions import Versions
from twinspire_core import storage
from twinspire_core.contracts import model_bundle

GATE = "gate.json"
_AT_ONCE = 8

Measures = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NextDay:
    """A version on the next day that was run, before anything was trained on that day.

    Attributes:
      version: the one published of that day, whose metrics.json has the figures.
      measures: of the version's two-tower.
      mix: of its mix of sources; None if it has none.
      baselines: of the lists that need no model, by name, for the same users.
    """

    version: str
    measures: Measures
    mix: Measures | None
    baselines: Mapping[str, Measures]

    @property
    def day(self) -> date:
        """The day."""
        return version_date(self.version)

    def best_baseline(self, metric: str) -> tuple[str, float] | None:
        """The baseline that has most of a measure, and how much; None if none was measured."""
        found = {
            name: m[metric] for name, m in self.baselines.items() if m and m.get(metric) is not None
        }
        return max(found.items(), key=lambda one: one[1]) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All that was measured of a version.

    Attributes:
      metrics: its metrics.json.
      gate: its gate.json.
      next_day: None until a later day was run whose parent it is.
    """

    metrics: Mapping[str, Any]
    gate: Mapping[str, Any]
    next_day: NextDay | None

    @property
    def holdout(self) -> Mapping[str, Any]:
        """The version, its parent and the baselines on held-out users of its day, as
        twinspire_core/contracts/model_bundle.py says.
        """
        return self.metrics.get(model_bundle.HOLDOUT) or {}

    @property
    def mix(self) -> Mapping[str, Any]:
        """The same of its mix of sources, on those of them that are of the day itself."""
        return (self.metrics.get(model_bundle.MIX) or {}).get(model_bundle.HOLDOUT) or {}


def measured(
    versions: Versions, log: Sequence[Entry], wanted: Collection[str]
) -> dict[str, Measured]:
    """What was measured of stored versions, by version.

    Args:
      versions: of the recommender.
      log: all its entries.
      wanted: versions that are stored.
    """
    state, next_of = State.of(log), dict[str, str]()
    # What the next day's run measures
    towers = {version: state.trained(version) for version in wanted}
    for version, parent in parents(log).items():
        if parent in towers.values() and parent and version not in state.pruned:
            # The nearest day; of two versions of a day, the one that came later.
            next_of[parent] = min(version, next_of.get(parent, version), key=version_date)
    metrics = _read(versions, model_bundle.METRICS, {*wanted, *next_of.values()})
    gates = _read(versions, GATE, wanted)
    return {
        version: Measured(
            metrics=metrics[version],
            gate=gates[version],
            next_day=_next_day(next_of.get(towers[version]), metrics),
        )
        for version in wanted
    }


def _next_day(version: str | None, metrics: Mapping[str, Mapping[str, Any]]) -> NextDay | None:
    found = metrics[version].get(model_bundle.PROGRESSIVE) if version else None
    if version is None or not found:
        return None
    return NextDay(
        version=version,
        measures=found,
        mix=(metrics[version].get(model_bundle.MIX) or {}).get(model_bundle.PROGRESSIVE),
        baselines=metrics[version].get(model_bundle.BASELINES) or {},
    )


def _read(versions: Versions, name: str, wanted: Iterable[str]) -> dict[str, dict[str, Any]]:
    def read(version: str) -> tuple[str, dict[str, Any]]:
        try:
            return version, json.loads(storage.read_bytes(versions.place(version, name)))
        except FileNotFoundError:  # it was pruned since it was listed
            return version, {}

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(pool.map(read, wanted))
