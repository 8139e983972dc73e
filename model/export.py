"""SavedModels from raw features: the transform graph and one tower, without slots and the other side's tables."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from model import bundle
from model.canonical import canonicalise
from model.towers import TwoTower, encode
from model.transform import Transform


class RawTower(tf.Module):
    """A tower over raw features, with copies of the weights that it needs."""

    def __init__(self, model: TwoTower, transform: Transform, side: str) -> None:
        super().__init__()
        used = {part.table for part in model.layout.parts[side] if part.table}
        self.side = side
        self.layout = model.layout
        self.transform = transform
        self.tables = {name: tf.Variable(model.tables[name].values, trainable=False) for name in sorted(used)}
        self.dense = {
            name: tf.Variable(weight.values, trainable=False)
            for name, weight in model.dense.items()
            if name.startswith(f"{side}/")
        }

    def __call__(self, raw: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Encodes raw columns, as `Transform.inputs` describes them; [B, D] float32."""
        return encode(self.layout, self.side, self.tables, self.dense, self.transform(raw))


def export(model: TwoTower, transform: Transform, side: str, folder: Path) -> None:
    """Writes the SavedModel that model/bundle.py describes; equal models are equal files."""
    tower = RawTower(model, transform, side)

    @tf.function
    def serve(**raw: tf.Tensor) -> dict[str, tf.Tensor]:
        return {bundle.VECTOR: tower(raw)}

    signature = serve.get_concrete_function(**transform.inputs)
    tf.saved_model.save(tower, str(folder), signatures={bundle.SIGNATURE: signature})
    canonicalise(folder)
