"""What a version must reach: the table `gate`."""

from typing import Annotated, Literal

from pydantic import Field

from twinspire_core.config.tables.base import Strict
from twinspire_core.config.tables.quality import EvaluationConfig
from twinspire_core.errors import did_you_mean
from twinspire_core.metrics import measure_names
from twinspire_core.metrics.measure_names import SLICES

_Share = Annotated[float, Field(ge=0, le=1)]


class GateConfig(Strict):
    """What a version must reach to go live."""

    metric: str = Field(
        "recall@50", description="Compared with the newest accepted version's, on the same users."
    )
    max_drop: float = Field(
        0.1,
        ge=0,
        le=1,
        description=(
            "The relative loss that is put up with. More is refused, unless its paired 95% interval"
            " reaches up to no loss: then it may be chance. Beside the best version accepted in the"
            " 30 days before, and of the trees beside those of the version before, a loss is refused"
            " when the whole interval is beyond it; in a slice of users by earlier events (0, 1-4,"
            " 5-19, 20+), when it is surely beyond twice as much."
        ),
    )
    max_lead_drop: float = Field(
        1.0,
        ge=0,
        le=1,
        description=(
            "The same of the lead over the items that the day's other users took most, against the"
            " median of up to seven versions before; refused when the whole interval is also below"
            " all of theirs. For logs that change by the day, like news, where a baseline that saw"
            " nothing of it is easily beaten: 0.3. 1 for never."
        ),
    )
    min_users: int = Field(
        200,
        ge=1,
        description=(
            "Users needed for a comparison, and in a slice to judge that. Of fewer, a loss is refused"
            " when its whole interval is beyond `max_drop`; else days before are put together, up to"
            " 28, and where these are too few as well, it is noted."
        ),
    )
    floors: dict[str, _Share] = Field(
        default_factory=dict,
        description=(
            "Least values by measure, of a slice too: `{ 'recall@50' = 0.05, 'recall@50/users:0' ="
            " 0.01 }`. They hold for the two-tower and for what is served; one named"
            " `served/recall@50` for what is served alone, in place of that."
        ),
    )
    ceilings: dict[str, _Share] = Field(
        default_factory=dict,
        description=(
            "Largest values of what should be small: `{ 'gini@50' = 0.95, 'overlap@50' = 0.5, "
            "'served/overlap@50' = 0.7, 'popular_share@50' = 0.6 }`."
        ),
    )
    on_skew: Literal["warn", "refuse", "ignore"] = Field(
        "warn",
        description=(
            "What is done where a feature of the catalogue, or of the users, is further than 0.3 from"
            " that of the rows trained on (Jensen-Shannon divergence of a number, L-infinity distance"
            " of a category), or more than a tenth of the catalogue, by events, has values outside the"
            " range of those trained on: a note, or no new version."
        ),
    )


def check_gate(gate: GateConfig, evaluation: EvaluationConfig) -> None:
    """Checks that the gate names measures that there are.

    Raises:
      ValueError: it does not.
    """
    ks = evaluation.ks
    floors = _limited_measures(gate.floors)
    ceilings = _limited_measures(gate.ceilings)
    _check_measures("gate.metric", [gate.metric], measure_names.headline(ks), evaluation)
    _check_measures("gate.floors", floors, measure_names.with_floors(ks, SLICES), evaluation)
    _check_measures("gate.ceilings", ceilings, measure_names.with_ceilings(ks, SLICES), evaluation)


def _limited_measures(limits: dict[str, float]) -> list[str]:
    """The measures that limits are of, without the prefix of what is served."""
    for name in limits:
        if name.startswith("mix/"):
            raise ValueError(
                f"gate limits {name!r}, and there is no mix any more: write"
                f" {measure_names.OF_SERVED + name.removeprefix('mix/')!r}"
            )
    return [name.removeprefix(measure_names.OF_SERVED) for name in limits]


def _check_measures(
    key: str, measures: list[str], known: list[str], evaluation: EvaluationConfig
) -> None:
    for name in measures:
        if name in known:
            continue
        rule = f"a measure with a k of evaluation.ks = {list(evaluation.ks)}"
        if "/" in name:
            rule += f" and a slice, one of {', '.join(measure_names.names(SLICES))}"
        raise ValueError(f"{key} names {rule}, found {name!r}{_hint(name, known, evaluation)}")


def _hint(measure: str, known: list[str], evaluation: EvaluationConfig) -> str:
    """What may have been meant by a measure that cannot be named here."""
    # It may be a measure that has its place in the other table of limits.
    for table, names in (
        ("floors", measure_names.with_floors),
        ("ceilings", measure_names.with_ceilings),
    ):
        if measure in names(evaluation.ks, SLICES):
            return f"; that can stand in gate.{table}"
    return did_you_mean(measure, known, "; ")
