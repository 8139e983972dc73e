"""The layers of a history's encoder. Shapes: S sequences, T places, W the width of an embedding.

This is a separate module because only this one loads Keras.
"""

from typing import Any

import keras

from model.towers.architecture import Attention

_EPSILON = 1e-6


class _Block(keras.layers.Layer):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, spec: Attention, name: str) -> None:
        super().__init__(name=name)
        layers = keras.layers
        self.before_attention = layers.LayerNormalization(epsilon=_EPSILON, name="before_attention")
        self.attention = layers.MultiHeadAttention(
            spec.heads, spec.width // spec.heads, name="attention"
        )
        self.before_forward = layers.LayerNormalization(epsilon=_EPSILON, name="before_forward")
        self.up = layers.Dense(spec.width, activation="relu", name="up")
        self.down = layers.Dense(spec.width, name="down")
        self.dropouts = [
            layers.Dropout(spec.dropout, name="dropout_attention"),
            layers.Dropout(spec.dropout, name="dropout_forward"),
        ]

    def call(self, x: Any, training: bool = False) -> Any:
        # The normalisation comes before each half, not after it, so training needs no warm-up of the learning
        # rate.
        normed = self.before_attention(x)
        attended = self.attention(normed, normed, use_causal_mask=True)
        x = x + self.dropouts[0](attended, training=training)
        forward = self.down(self.up(self.before_forward(x)))
        return x + self.dropouts[1](forward, training=training)


class Encoder(keras.layers.Layer):
    """Positions, blocks, and a last normalisation.

    Padding is at the end of a sequence and needs no mask, because attention is causal.
    """

    def __init__(self, spec: Attention) -> None:
        super().__init__(name="encoder")
        self.scale = (
            spec.width**0.5
        )  # embeddings have length 1; the blocks work best with values around 1
        self.positions = self.add_weight(shape=(spec.length, spec.width), name="positions")
        self.dropout = keras.layers.Dropout(spec.dropout, name="dropout")
        self.blocks = [_Block(spec, str(number)) for number in range(spec.layers)]
        self.last = keras.layers.LayerNormalization(epsilon=_EPSILON, name="last")

    def call(self, x: Any, training: bool = False) -> Any:
        """Encodes [S, T, W] float32; returns the same shape."""
        places = keras.ops.shape(x)[1]
        x = x * self.scale + self.positions[:places]
        x = self.dropout(x, training=training)
        for block in self.blocks:
            x = block(x, training=training)
        return self.last(x)
