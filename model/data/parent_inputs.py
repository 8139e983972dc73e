"""What towers read beside what a pipeline file's features now are. Imports no TensorFlow."""

from collections.abc import Mapping

import pyarrow as pa

from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import feature_columns
from twinspire_core.contracts.model_bundle import Input


def inputs_of(pipeline: Pipeline, side: str) -> dict[str, Input]:
    """The raw columns of a tower as the pipeline file declares them."""
    found = {}
    for name, feature in pipeline.tower(side).items():
        for column in feature_columns(name, feature):
            listed = pa.types.is_list(column.type)
            value = column.type.value_type if listed else column.type
            dtype = "float32" if pa.types.is_float32(value) else str(value)
            found[column.name] = Input(dtype, listed, feature.vector_size)
    return found


def unread(towers: Mapping[str, Mapping[str, Input]], pipeline: Pipeline) -> list[str]:
    """Columns that an earlier day's towers read and that are missing for them now, each with the
    reason.

    Args:
      towers: by side, `query` and `item`, what each takes
        (`twinspire_core.contracts.model_bundle.Tower.inputs`).
      pipeline: of the rows that they are given now.
    """
    now = {side: inputs_of(pipeline, side) for side in towers}
    return [
        f"{column} (now {_told(now[side].get(column))}, was {_told(spec)})"
        for side, inputs in towers.items()
        for column, spec in inputs.items()
        if now[side].get(column) != spec
    ]


def _told(spec: Input | None) -> str:
    if spec is None:
        return "gone"
    one = "text" if spec.dtype == "string" else "number"
    return f"a list of {spec.width or ''} {one}s".replace("  ", " ") if spec.listed else f"a {one}"
