"""SavedModels from raw features: the transform graph and one tower, without optimiser slots and
without the other tower's tables.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from model.towers.transform_module import Transform
from model.towers.two_tower import TwoTower, encode
from twinspire_core.contracts import model_bundle
from twinspire_core.contracts.canonical_saved_model import canonicalise


class RawTower(tf.Module):
    """A tower over raw features, with copies of the weights that it needs."""

    def __init__(self, model: TwoTower, transform: Transform, side: str) -> None:
        super().__init__()
        # An item tower must not carry the table of users: it is large, and holds their ids.
        used = {column.table for column in model.architecture.columns[side] if column.table}
        self.side = side
        self.architecture = model.architecture
        self.transform = transform
        self.tables = {
            name: tf.Variable(model.tables[name].values, trainable=False) for name in sorted(used)
        }
        # Without slots, and not trainable: a SavedModel is for serving.
        self.dense = {
            name: tf.Variable(weight.values, trainable=False)
            for name, weight in model.dense.items()
            if name.startswith(f"{side}/")
        }

    def __call__(self, raw: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Encodes raw columns, as `Transform.inputs` describes them; [B, D] float32."""
        return encode(self.architecture, self.side, self.tables, self.dense, self.transform(raw))


class _InMemory(NamedTuple):
    """What is saved, in the form that `model_bundle.Tower` takes.

    Attributes:
      tower: kept, because its variables live as long as it does.
      signatures: callables by name.
    """

    tower: RawTower
    signatures: Mapping[str, Any]


def export(model: TwoTower, transform: Transform, side: str, folder: Path) -> model_bundle.Tower:
    """Writes the SavedModel that twinspire_core/contracts/model_bundle.py describes; equal models
    give equal files.

    Returns: the tower that was written, from memory.
    """
    made = _with_signatures(model, transform, side)
    tf.saved_model.save(made.tower, str(folder), signatures=made.signatures)
    # TensorFlow gives nodes new names in each process; without this equal models would differ in bytes.
    canonicalise(folder)
    return model_bundle.Tower(made)


def in_memory(model: TwoTower, transform: Transform, side: str) -> model_bundle.Tower:
    """The tower that `export` would write, from memory alone; what is trained later does not change
    it.
    """
    return model_bundle.Tower(_with_signatures(model, transform, side))


def _with_signatures(model: TwoTower, transform: Transform, side: str) -> _InMemory:
    tower = RawTower(model, transform, side)

    @tf.function(autograph=False)
    def serve(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        return {model_bundle.VECTOR: tower(raw)}

    signatures = {model_bundle.SIGNATURE: serve.get_concrete_function(**transform.inputs)}
    return _InMemory(tower, signatures)
