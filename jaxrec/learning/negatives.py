"""Negatives: the items that a target is scored against besides the targets of other rows.

Dimensions: n negatives shared by all rows, rows x T predictions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Negatives(NamedTuple):
    """One set for all rows of an update.

    Attributes:
      items: [n] int32.
      offset: added to the scores of the negatives in training, [n].
      target_offset: added to the scores of targets, as targets and as columns of other rows, [rows, T].
    """

    items: jax.Array
    offset: jax.Array
    target_offset: jax.Array


class Sampler(NamedTuple):
    """Draws from popularity^alpha in constant time per draw, whatever the number of items (Walker's alias method).

    Attributes:
      share: probability of keeping the column drawn, [items].
      alias: the item otherwise, [items].
      column_offset: offset of an item as in-batch column, -logq log(count), [items].
      drawn_offset: offset of an item as drawn negative, -logq alpha log(count), [items].
    """

    share: jax.Array
    alias: jax.Array
    column_offset: jax.Array
    drawn_offset: jax.Array


def sampler(counts: np.ndarray, alpha: float, logq: float) -> Sampler:
    """GRU4Rec's sampler: popularity^alpha over training counts, with the correction that takes popularity out of the scores again.

    In-batch columns appear by popularity and extras by popularity^alpha, so each is corrected by its own probability, up to a constant.
    """
    counts = np.asarray(counts, np.float64)
    share, alias = alias_table(counts**alpha if alpha else (counts >= 0).astype(np.float64))
    log_count = np.log(np.maximum(counts, 1.0))
    arrays = (share, alias, -logq * log_count, -logq * alpha * log_count)
    return Sampler(
        *(jnp.asarray(array, dtype) for array, dtype in zip(arrays, (jnp.float32, jnp.int32, jnp.float32, jnp.float32), strict=True))
    )


def alias_table(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(share, alias), [items] each: draw a column uniformly, keep it with probability share, else take alias.

    Walker's table, filled in the order of the items by two running sums (Huebschle-Schneider and Sanders 2019), so that no loop is needed.

    >>> alias_table(np.array([3.0, 1.0]))
    (array([1. , 0.5]), array([0, 0]))
    """
    share = weights * (len(weights) / weights.sum())
    alias = np.arange(len(weights))
    is_rich = share >= 1
    is_rich[share.argmax()] = True  # rounding may leave equal weights all below 1
    rich, poor = np.flatnonzero(is_rich), np.flatnonzero(~is_rich)
    # Sums of whole numbers are exact, those of millions of fractions are not.
    unit = 2.0 ** (62 - len(weights).bit_length())
    surplus = np.rint((share - 1) * unit).astype(np.int64)
    given, needed = np.cumsum(surplus[rich]), np.concatenate([[0], np.cumsum(-surplus[poor])])
    # The rich item whose turn it is fills a poor column whole, even beyond what it has to give ...
    turn = np.searchsorted(given, needed[:-1], side="right")
    alias[poor] = rich[np.minimum(turn, len(rich) - 1)]
    # ... and what it gave beyond that is taken from its own column, which the next rich item fills.
    filled = np.searchsorted(needed, given[:-1])
    beyond = (needed[np.minimum(filled, len(poor))] - given[:-1]) / unit
    share[rich] = 1.0
    share[rich[:-1]] -= np.clip(beyond, 0.0, 1.0)
    alias[rich[:-1]] = rich[1:]
    return share, alias


def draw_items(source: Sampler, key: jax.Array, n: int) -> jax.Array:
    """n items with replacement, [n] int32."""
    # Two numbers per draw: one float32 could not tell the share of one column among millions.
    place, keep = jax.random.bits(key, (2, n), jnp.uint32)
    column = (place % source.share.shape[0]).astype(jnp.int32)
    return jnp.where(keep * jnp.float32(2**-32) < source.share[column], column, source.alias[column])
