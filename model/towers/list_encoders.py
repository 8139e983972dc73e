"""How a list of ids becomes one vector: a mean of embeddings, or a sequence that causal self-attention with
positions reads.

Shapes: B rows, L entries of a list, W the width of the table. An empty list gives zeros. The result does not
depend on the amount of padding.

For training, the lists of a batch are stored without padding (`EmbeddingBags`), twice: sorted by list, and
sorted by id. The sum of each list's embeddings is a sparse matrix times the table, and its gradient is the
transposed matrix times the gradient of the sums. In its own order, each is a sum of neighbours. Adding up
scattered entries, like the gradient of a lookup, is several times slower. NumPy sorts the entries, because
TensorFlow sorts slowly.

Self-attention is as in SASRec (Kang and McAuley, ICDM 2018), but each half of a block starts with the
normalisation instead of ending with it. The output at a place depends only on the items up to it, so one
pass encodes every prefix of a sequence, S sequences of T places. Keras only describes the computation
(model/towers/encoder_layers.py). The weights belong to the towers, by name, like all others.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from model.towers.architecture import Attention


class EmbeddingBags(NamedTuple):
    """The lists of B rows: G distinct lists with E entries in all, of U distinct ids. Its fields
    are arrays, tensors, or their specs.

    Attributes:
      ids: [U] int32, ascending.
      of: [B] int32, the list of each row. Rows that follow each other with equal lists share one.
      count: [G] int32, number of entries of each list.
      row: [E] int32, the list of each entry, ascending.
      place: [E] int32, the position in `ids` of each entry's id.
      by_id: [E] int32, the entries in the order of their ids and, among equal ids, of their lists.
    """

    ids: Any
    of: Any
    count: Any
    row: Any
    place: Any
    by_id: Any


def bags(lists: np.ndarray) -> EmbeddingBags:
    """Sorts the entries of lists into bags.

    Args:
      lists: [B, L] int32; 0 is padding, at any place.
    """
    # Rows of a basket, or of a user's visit, often share their history. Its sum is computed once.
    is_new_list = np.ones(len(lists), bool)
    is_new_list[1:] = (lists[1:] != lists[:-1]).any(1)
    lists = lists[is_new_list]
    # Two lists [[7, 5, 0], [5, 0, 0]] have the entries 7, 5, 5 of the rows 0, 0, 1: ids = [5, 7],
    # place = [1, 0, 0], and by_id = [1, 2, 0].
    row, column = np.nonzero(lists)
    ids = lists[row, column]
    # Stable, so that entries of one id stay in the order of their lists, and sums are always computed in the
    # same order.
    by_id = _stable_order(ids)
    ordered = ids[by_id]
    is_new_id = np.diff(ordered, prepend=-1) != 0
    place = np.empty(len(ids), np.int32)
    place[by_id] = np.cumsum(is_new_id) - 1
    return EmbeddingBags(
        ids=ordered[is_new_id],
        of=(np.cumsum(is_new_list) - 1).astype(np.int32),
        count=np.bincount(row, minlength=len(lists)).astype(np.int32),
        row=row.astype(np.int32),
        place=place,
        by_id=by_id.astype(np.int32),
    )


def bagged(
    features: Mapping[str, np.ndarray], columns: Sequence[str]
) -> dict[str, np.ndarray | EmbeddingBags]:
    """The features, with some columns of lists, [B, L] int32, turned into `bags`."""
    return {**features, **{name: bags(features[name]) for name in columns if name in features}}


def rows_of(column: str) -> str:
    """The key in `features` for the embeddings of a list column's ids."""
    return f"{column}:rows"


def _stable_order(ids: np.ndarray) -> np.ndarray:
    """A stable order by id, 16 bits at a time: NumPy sorts 16-bit numbers by radix sort, and 32-bit numbers
    by slower comparisons.
    """
    order = np.argsort(ids.astype(np.uint16), kind="stable")
    if ids.max(initial=0) >> 16:
        high = (ids[order] >> 16).astype(np.uint16)
        order = order[np.argsort(high, kind="stable")]
    return order


def mean_of_present(rows: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Averages the entries of each list that are not padding.

    Args:
      rows: [B, L, W] float32.
      ids: [B, L] int, 0 is padding.

    Returns: [B, W] float32.

    Example: a list of two entries, with one place of padding.
      >>> rows = tf.constant([[[2.0], [4.0], [9.0]]])
      >>> mean_of_present(rows, tf.constant([[5, 7, 0]])).numpy().tolist()
      [[3.0]]
    """
    present = tf.cast(ids > 0, rows.dtype)
    count = tf.reduce_sum(present, 1, keepdims=True)
    return tf.linalg.matvec(rows, tf.math.divide_no_nan(present, count), transpose_a=True)


def mean_of_bags(rows: tf.Tensor, bags: EmbeddingBags) -> tf.Tensor:
    """`mean_of_present` of B lists laid out for training: [B, W] float32. `rows` are those of `bags.ids`,
    [U, W] float32.
    """
    count = tf.cast(bags.count, rows.dtype)[:, tf.newaxis]
    return tf.gather(tf.math.divide_no_nan(_sum_of_bags(rows, bags), count), bags.of)


def lengthened(mean: tf.Tensor, lists: tf.Tensor | EmbeddingBags) -> tf.Tensor:
    """Sums divided by the square root of the number of entries, computed from means.

    The mean of many different rows is short, so the parts that all lists share would dominate. The factor,
    the root of the count, corrects this: the result for orthogonal rows is as long as one row. This is the
    normalisation of FISM (Kabbur et al., KDD 2013) with the exponent 1/2, and of SVD++ (Koren, KDD 2008).

    Args:
      mean: [B, W] float32, of each list's rows.
      lists: [B, L] int with 0 as padding, or B lists laid out for training.

    Returns: [B, W] float32.
    """
    is_laid_out = isinstance(lists, EmbeddingBags)
    count = tf.gather(lists.count, lists.of) if is_laid_out else tf.math.count_nonzero(lists, 1)
    return mean * tf.sqrt(tf.cast(count, mean.dtype))[:, tf.newaxis]


def _sum_of_bags(rows: tf.Tensor, bags: EmbeddingBags) -> tf.Tensor:
    """Sums over lists, [G, W], of the rows of their ids: `rows`, [U, W] float32, are those of `bags.ids`."""

    @tf.custom_gradient
    def summed(rows: tf.Tensor) -> tuple[tf.Tensor, Callable[..., tf.Tensor]]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            # The transposed matrix has the same entries in the order of their ids.
            list_of_entry = tf.gather(bags.row, bags.by_id)
            id_of_entry = tf.gather(bags.place, bags.by_id)
            return _segment_sum(upstream, list_of_entry, id_of_entry, tf.size(bags.ids))

        return _segment_sum(rows, bags.place, bags.row, tf.size(bags.count)), gradient

    return summed(rows)


def _segment_sum(
    x: tf.Tensor, position: tf.Tensor, segment: tf.Tensor, segments: tf.Tensor
) -> tf.Tensor:
    """Sums of the rows of `x` at `place`, by segment, [segments, W]; numbers of segments, [E],
    ascend.
    """
    return tf.raw_ops.SparseSegmentSumWithNumSegments(
        data=x, indices=position, segment_ids=segment, num_segments=segments
    )


def attended(
    column: str,
    spec: Attention,
    table: tf.Tensor,
    dense: Mapping[str, tf.Tensor],
    features: Mapping[str, tf.Tensor],
    seed: tf.Tensor | None,
) -> tf.Tensor:
    """Encodes histories by self-attention, and returns the output at the newest item of each history.

    Histories come in one of two forms, by whether `features` has `last_of(column)`:

    - `column` is [B, L] int, a history per row with 0 as padding. The newest `spec.length` items
      are read.
    - `column` is [S, T] int, sequences padded at the end, which several rows may share; and `last_of(column)`
      is [B] int32, the position of each row's newest item in the flattened sequences, -1 for an empty
      history. (model/data/batching.py)

    Args:
      column: name of the history.
      table: [rows, W] float32, embeddings of items.
      dense: all weights of the query tower, by name.
      features: transformed columns, as above, by name.
      seed: [2] int32 of dropout, or None for no dropout.

    Returns: [B, W] float32. An empty history gives a learned vector.
    """
    prefix = encoder_prefix(column)
    weights = {
        name.removeprefix(prefix): weight
        for name, weight in dense.items()
        if name.startswith(prefix)
    }
    ids = features[column]
    last = features.get(last_of(column))
    if last is None:
        ids, last = _newest_items(ids, spec.length)
    encoded = encode_sequences(spec, weights, tf.gather(table, ids), seed)
    # The vector of empty histories comes before all positions, so that index -1 + 1 reads it:
    #   [empty, (sequence 0, place 0), (0, 1), …, (1, 0), …]
    places = tf.concat([weights["empty"][tf.newaxis], tf.reshape(encoded, [-1, spec.width])], 0)
    return tf.gather(places, last + 1)


def encode_sequences(
    spec: Attention,
    weights: Mapping[str, tf.Tensor],
    rows: tf.Tensor,
    seed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Encodes sequences.

    Args:
      weights: by name, as `encoder_shapes` names them.
      rows: [S, T, W] float32, embeddings of items, oldest first, T at most `spec.length`.
      seed: [2] int32, seed of dropout; None for no dropout.

    Returns: [S, T, W] float32. Values after the end of a shorter sequence are meaningless.
    """
    layer = _layer(spec)
    # The only state of the layer is the seeds of its dropouts. Each call passes them, so that equal steps
    # drop the same values.
    states = [variable.value for variable in layer.non_trainable_variables]
    if seed is not None:
        seed = tf.cast(seed, tf.int64)
        states = [seed + tf.constant([number, 0], tf.int64) for number in range(len(states))]
    trained = [weights[_name(variable)] for variable in layer.trainable_variables]
    encoded, _ = layer.stateless_call(trained, states, rows, training=seed is not None)
    return encoded


def encoder_shapes(spec: Attention) -> dict[str, list[int]]:
    """Shapes of the weights of an encoder, by name."""
    return {_name(variable): list(variable.shape) for variable in _layer(spec).trainable_variables}


def last_of(column: str) -> str:
    """The key in `features` for the position of each row's newest item in a packed history."""
    return f"{column}:last"


def encoder_prefix(column: str) -> str:
    """Prefix of the names of the weights of a history's encoder."""
    return f"query/history/{column}/"


def _newest_items(ids: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """One sequence per row, without gaps, and the length of each."""
    lists = tf.ragged.boolean_mask(ids, ids > 0)[:, -length:]
    count = tf.cast(lists.row_lengths(), tf.int32)
    sequences = lists.to_tensor()
    first = tf.range(tf.size(count)) * tf.shape(sequences)[1]
    return sequences, tf.where(count > 0, first + count - 1, -1)


@lru_cache
def _layer(spec: Attention) -> Any:
    # Loading Keras takes a second, and few pipelines read histories as sequences.
    from model.towers.encoder_layers import Encoder

    with tf.init_scope():
        layer = Encoder(spec)
        layer(tf.zeros([1, 1, spec.width]))
    return layer


def _name(variable: Any) -> str:
    path: str = variable.path
    return path.removeprefix("encoder/")
