"""The candidates of a batch: its own items, and items drawn uniformly from the corpus. Masks exclude
candidates that are not negatives of a row: its own item, other items that its user took, and items that
were not drawn or chosen.

A candidate's weight depends on the expected number of candidates with its item, however they were
sampled. With B rows and U items drawn from a corpus of C items, this number is

    (B - 1) q + U / C

where q is the item's sampling probability, its share of the training rows. An item outside the corpus
has no U / C. Two things are not exact: q is an estimate, and training from scratch uses the corpus of the
last day for all days.

An accidental hit is another candidate with the row's item. As a negative, it would teach the model that the
positive is wrong.

Hard and semi-hard negatives are items of the batch, chosen by their cosine to the row's query: k are drawn
from a band of ranks. The draw can be corrected: every drawn candidate represents 1 / share of the band.
Nothing represents the items outside the band, unless uniform candidates were added.

B rows of the batch, R rows of a block, C candidates (the first B are the batch's), W ranks of a band.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from model.losses.sampling_probability import StreamingFrequency
from twinspire_core.config.tables.training import NegativesConfig

SEMI_HARD_RANKS = (100, 500)
"""The first rank of the band, from 0, and the rank after its last. The first hundred are often items that the
user would also take. Facebook's search uses the same ranks (Huang et al., KDD 2020).
"""
# Less than every cosine and every number in [0, 1), so it sorts last among both.
_NEVER = -3.0


class Candidates(NamedTuple):
    """The positives and negatives of the rows.

    Attributes:
      vector: [C, D] float32, L2-normalised.
      item: [C] int64 or string; several candidates may have the same item.
      in_batch: [C] float32, expected number of the batch's other candidates with the candidate's item.
      added: [C] float32, the same for the added candidates; 0 if the item cannot be added.
    """

    vector: tf.Tensor
    item: tf.Tensor
    in_batch: tf.Tensor
    added: tf.Tensor


class EncodedItems(NamedTuple):
    """Items with their vectors.

    Attributes:
      vector: [N, D] float32, by the item tower.
      item: [N] int64 fingerprints.
      draw_probability: [N] float32, the probability that a draw from the corpus gives this item; 0 for
        items outside the corpus.
    """

    vector: tf.Tensor
    item: tf.Tensor
    draw_probability: tf.Tensor


def step_candidates(
    batch: EncodedItems, drawn: EncodedItems | None, frequency: StreamingFrequency | None
) -> Candidates:
    """The batch's items, then the drawn ones, with their expected counts.

    Args:
      batch: [B], the rows' own items, which the frequency estimate has counted already.
      drawn: [U] items drawn from the corpus; None without uniform negatives.
      frequency: estimates q; None if no correction needs it.
    """
    items = batch
    if drawn is not None:
        items = EncodedItems(*(tf.concat(pair, 0) for pair in zip(batch, drawn, strict=True)))
    rows = tf.size(batch.item)
    uniform = tf.cast(tf.size(items.item) - rows, tf.float32)
    # A row's own item is its positive, so the other rows' items are its candidates.
    others = tf.maximum(tf.cast(rows, tf.float32) - 1, 1)
    q = (
        tf.ones_like(items.item, tf.float32)
        if frequency is None
        else tf.exp(frequency.log_q(items.item))
    )
    return Candidates(
        vector=items.vector,
        item=items.item,
        in_batch=others * q,
        added=uniform * items.draw_probability,
    )


class Excluded(NamedTuple):
    """The candidates that a block of R rows excludes.

    Attributes:
      candidates: [R, C] bool, true if the candidate is excluded.
      expected: [R] float32, expected number of the other candidates with an item that must not be a
        negative.
    """

    candidates: tf.Tensor
    expected: tf.Tensor


Mask = Callable[[tf.Tensor, tf.Tensor], Excluded]
"""(first row, last row + 1) -> what these rows leave out."""


def mask_own_item(item: tf.Tensor, expected: tf.Tensor) -> Mask:
    """Excludes the candidates that have the row's item, also its own candidate.

    Args:
      item: [C] int64 or string; the first B are the rows'.
      expected: [C] float32, how many of the other candidates are expected to hold the candidate's
        item.

    Example: candidate 2 has the item of row 0, too.
      >>> mask = mask_own_item(tf.constant([7, 8, 7]), tf.constant([2.0, 1.0, 2.0]))
      >>> mask(tf.constant(0), tf.constant(1)).candidates.numpy().tolist()
      [[True, False, True]]
    """
    # Items as int32 numbers, which compare faster than int64 or strings
    code = tf.unique(item).idx

    def mask(start: tf.Tensor, end: tf.Tensor) -> Excluded:
        return Excluded(code[start:end, tf.newaxis] == code, expected[start:end])

    return mask


def mask_items_of_user(item: tf.Tensor, expected: tf.Tensor, user: tf.Tensor) -> Mask:
    """Excludes the candidates with an item that the row's user took in this batch.

    Args:
      item: [C] int64 or string; the first B are the rows'.
      expected: [C] float32, how many of the other candidates are expected to hold the candidate's
        item.
      user: [B] int64 or string, who took each row's item.

    Example: user 1 took items 7 and 8, user 2 took item 9.
      >>> mask = mask_items_of_user(tf.constant([7, 8, 9]), tf.ones([3]), tf.constant([1, 1, 2]))
      >>> mask(tf.constant(0), tf.constant(3)).candidates.numpy().tolist()
      [[True, True, False], [True, True, False], [False, False, True]]
    """
    rows = tf.shape(user)[0]
    items, item_code = tf.unique(item)
    users, user_code = tf.unique(user)
    expected_of_item = tf.math.unsorted_segment_max(
        expected[:rows], item_code[:rows], tf.size(items)
    )

    def mask(start: tf.Tensor, end: tf.Tensor) -> Excluded:
        # The table has only the users of the block. A table of all users of the batch could be far larger
        # than the logits.
        block_users, block_user = tf.unique(user_code[start:end])
        number = tf.tensor_scatter_nd_update(
            tf.fill([tf.size(users)], -1),
            block_users[:, tf.newaxis],
            tf.range(tf.size(block_users)),
        )
        number_of_row = tf.gather(number, user_code)
        rows_of_block_users = tf.where(number_of_row >= 0)
        pairs = tf.concat(
            [
                tf.gather(number_of_row, rows_of_block_users),
                tf.gather(item_code, rows_of_block_users),
            ],
            1,
        )
        shape = [tf.size(block_users), tf.size(items)]
        took = tf.scatter_nd(pairs, tf.ones_like(pairs[:, 0]), shape) > 0
        candidates = tf.gather(tf.gather(took, item_code, axis=1), block_user)
        expected_of_user = tf.reduce_sum(tf.where(took, expected_of_item, 0.0), 1)
        return Excluded(candidates, tf.gather(expected_of_user, block_user))

    return mask


def mask_drawn(mask: Mask, rows: tf.Tensor, k: tf.Tensor, seed: tf.Tensor) -> Mask:
    """Excludes what `mask` excludes, and all of each row's `rows - 1` other candidates in the batch except
    k random ones.

    The negatives of row i are the candidates i + d modulo B, for k distances d that all rows share. For a
    single row this is equivalent to drawing k candidates independently. Every candidate is drawn equally
    often, and [B, B] random numbers are not needed.

    Args:
      mask: which candidates must not be negatives.
      k: scalar int32, less than B.
      seed: [2] int32; the draw is a function of it.
    """
    # Of 4 rows and k = 2, the distances 1 and 3 were drawn, say: row 0 keeps the candidates 1 and 3, row 1
    # the candidates 2 and 0.
    distances = tf.random.experimental.stateless_shuffle(tf.range(1, rows), seed)[:k]
    left_out = tf.tensor_scatter_nd_update(
        tf.ones([rows], tf.bool), distances[:, tf.newaxis], tf.zeros([k], tf.bool)
    )
    around = tf.tile(left_out, [2])

    def drawn_mask(start: tf.Tensor, end: tf.Tensor) -> Excluded:
        excluded = mask(start, end)
        # The distance from row i to candidate j, plus B, because `around` repeats the distances twice.
        distance = (rows - tf.range(start, end))[:, tf.newaxis] + tf.range(rows)
        not_drawn = tf.gather(around, distance)
        added = tf.shape(excluded.candidates)[1] - rows
        return excluded._replace(
            candidates=excluded.candidates | tf.pad(not_drawn, [[0, 0], [0, added]])
        )

    return drawn_mask


class Chosen(NamedTuple):
    """Candidates chosen for R rows.

    Attributes:
      candidates: [R, B] bool.
      share: [R] float32, the share of the band that was chosen.
      low: [R] float32, the smallest cosine of the band.
      high: [R] float32, the largest cosine of the band.
    """

    candidates: tf.Tensor
    share: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor


def choose_negatives(
    cosine: tf.Tensor, allowed: tf.Tensor, settings: NegativesConfig, seed: tf.Tensor
) -> Chosen:
    """Chooses k candidates for each row, or the whole band if it has fewer.

    Args:
      cosine: [R, B] float32, of each row and candidate.
      allowed: [R, B] bool, the candidates that may be chosen.
      settings: whose `in_batch` is `hard` or `semi_hard`. Of equal cosines the first candidate
        ranks first.
      seed: [2] int32; the draw is a function of it.
    """
    first, last = (0, settings.k) if settings.in_batch == "hard" else SEMI_HARD_RANKS
    # Candidates that may not be chosen rank last. If a band reaches them, it is cut there.
    ranked = tf.math.top_k(tf.where(allowed, cosine, _NEVER), tf.minimum(last, tf.shape(cosine)[1]))
    band = ranked.values[:, first:]
    place_of_rank = ranked.indices[:, first:]
    is_allowed = band > _NEVER
    drawn, share = _draw(is_allowed, settings.k, seed)
    position = tf.gather(place_of_rank, tf.maximum(drawn, 0), batch_dims=1)
    position = tf.where(drawn < 0, -1, position)
    # An empty band must contain no cosine, so its lower end is above its upper end.
    low = tf.reduce_min(tf.where(is_allowed, band, -_NEVER), 1)
    return Chosen(_marked(position, cosine), share, low, tf.reduce_max(band, 1))


def _draw(band: tf.Tensor, k: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws k of each row's true entries; all if there are fewer.

    Args:
      band: [R, W] bool, the entries that may be drawn.

    Returns: the positions of the drawn entries, [R, k] int32, -1 after the last; and the drawn share, [R]
      float32.
    """
    # The positions of the k largest random numbers are k draws without replacement.
    numbers = tf.where(band, tf.random.stateless_uniform(tf.shape(band), seed), _NEVER)
    drawn = tf.math.top_k(numbers, tf.minimum(k, tf.shape(band)[1]))
    size = tf.reduce_sum(tf.cast(band, tf.float32), 1)
    share = tf.math.divide_no_nan(tf.minimum(size, float(k)), size)
    return tf.where(drawn.values > _NEVER, drawn.indices, -1), share


def _marked(position: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """[R, B] bool, true at the positions [R, k] of each row; -1 is no position."""
    row = tf.repeat(tf.range(tf.shape(position)[0]), tf.shape(position)[1])
    pairs = tf.stack([row, tf.reshape(position, [-1])], 1)
    pairs = tf.boolean_mask(pairs, pairs[:, 1] >= 0)
    return tf.scatter_nd(pairs, tf.ones_like(pairs[:, 0]), tf.shape(like)) > 0
