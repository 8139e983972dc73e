"""The layers of a history's encoder. Shapes: S sequences, T places, W the width of an embedding."""

from typing import Any

import keras

from model.towers.architecture import Attention


class _Block(keras.layers.Layer):
    """x + attention(x), then x + feed-forward(x)."""

    def __init__(self, spec: Attention, name: str) -> None:
        super().__init__(name=name)
        layers, width = keras.layers, spec.width
        self.before_attention = layers.LayerNormalization(epsilon=1e-6, name="before_attention")
        self.attention = layers.MultiHeadAttention(
            spec.heads, width // spec.heads, name="attention"
        )
        self.before_forward = layers.LayerNormalization(epsilon=1e-6, name="before_forward")
        self.up = layers.Dense(width, activation="relu", name="up")
        self.down = layers.Dense(width, name="down")
        self.dropouts = [
            layers.Dropout(spec.dropout, name=f"dropout_{part}")
            for part in ("attention", "forward")
        ]

    def call(self, x: Any, training: bool = False) -> Any:
        y = self.before_attention(x)
        x = x + self.dropouts[0](self.attention(y, y, use_causal_mask=True), training=training)
        y = self.down(self.up(self.before_forward(x)))
        return x + self.dropouts[1](y, training=training)


class Encoder(keras.layers.Layer):
    """Positions, blocks, a last normalisation. Padding needs no mask: nothing before it looks at
    it.
    """

    def __init__(self, spec: Attention) -> None:
        super().__init__(name="encoder")
        self.scale = spec.width**0.5  # embeddings have length 1; the blocks want values around 1
        self.positions = self.add_weight(shape=(spec.length, spec.width), name="positions")
        self.dropout = keras.layers.Dropout(spec.dropout, name="dropout")
        self.blocks = [_Block(spec, str(number)) for number in range(spec.layers)]
        self.last = keras.layers.LayerNormalization(epsilon=1e-6, name="last")

    def call(self, x: Any, training: bool = False) -> Any:
        """Encodes [S, T, W] float32; as many."""
        x = self.dropout(
            x * self.scale + self.positions[: keras.ops.shape(x)[1]], training=training
        )
        for block in self.blocks:
            x = block(x, training=training)
        return self.last(x)
