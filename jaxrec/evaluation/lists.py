"""What is recommended: the best items of each prediction, and how much of the catalogue they cover.

Lists are computed apart from ranks, which need none: validation never pays for them. They stream in slices of the catalogue, and what is
kept of them is one count per item.

Dimensions: P predictions, `width` items of a slice, k places of a list.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.blocks import SessionBlock
from jaxrec.data.dataset import Dataset
from jaxrec.evaluation.ranks import item_slices
from jaxrec.evaluation.scorer import Scorer

PLACES = 20


def spread(dataset: Dataset, sessions: range, most: int) -> range:
    """Every n-th of the sessions, with the least n that leaves about `most` predictions (all sessions where they have no more)."""
    predictions = int(dataset.offsets[sessions.stop] - dataset.offsets[sessions.start]) - len(sessions)
    return sessions[:: max(1, -(-predictions // most))]


def recommended(scorer: Scorer, blocks: Iterable[SessionBlock], n_items: int, places: int = PLACES) -> np.ndarray:
    """In how many lists each item stands, [items] int64: counts over several sets of predictions add up."""
    counts = np.zeros(n_items, np.int64)
    for block in blocks:
        counts += np.bincount(top_items(scorer, block, n_items, places).ravel(), minlength=n_items)
    return counts


def top_items(scorer: Scorer, block: SessionBlock, n_items: int, places: int = PLACES) -> np.ndarray:
    """The best items of each prediction of a block, best first, [P, min(k, items)] int32.

    Of equal scores the lower index comes first; a score that is not a number comes last.
    """
    return best_items(scorer, scorer.encode(block), block, n_items, places)


def best_items(scorer: Scorer, encoded: Any, block: SessionBlock, n_items: int, places: int) -> np.ndarray:
    """`top_items` of a block that is encoded already."""
    padded = len(block.predictions()[0])
    scores, items = np.zeros((padded, 0), np.float32), np.zeros((padded, 0), np.int32)
    for start, stop in item_slices(n_items, block.mask.size):
        scores, items = _with_slice(places, scores, items, jnp.asarray(scorer.scores(encoded, start, stop)), start)
    return np.asarray(items)[: np.count_nonzero(block.mask)]


def list_metrics(counts: np.ndarray, item_counts: np.ndarray, places: int = PLACES) -> dict[str, float]:
    """Coverage and popularity of what is recommended, and the number of lists.

    coverage@k is the share of the catalogue that stands in any list; popularity@k the mean of `percentiles` over all places of all lists,
    0.5 for items drawn at random. Both 0 without lists.

    Args:
      counts: what `recommended` gave, [items].
      item_counts: clicks of each item in the global period, [items].
    """
    total, size = int(counts.sum()), max(len(counts), 1)
    return {
        f"coverage@{places}": float(np.count_nonzero(counts) / size),
        f"popularity@{places}": float(counts @ percentiles(item_counts) / max(total, 1)),
        "lists": total // min(places, size),
    }


def percentiles(counts: np.ndarray) -> np.ndarray:
    """Share of the catalogue that was clicked less often than each item, and half of what was clicked as often, [items].

    >>> percentiles(np.array([3, 0, 9, 0])).tolist()
    [0.625, 0.25, 0.875, 0.25]
    """
    ordered = np.sort(counts)
    return (np.searchsorted(ordered, counts, "left") + np.searchsorted(ordered, counts, "right")) / (2 * max(len(counts), 1))


@partial(jax.jit, static_argnums=0)
def _with_slice(places: int, best: jax.Array, items: jax.Array, scores: jax.Array, start: int) -> tuple[jax.Array, jax.Array]:
    """(scores, items) of the best so far and those of one more slice, the best k of both."""
    scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
    found, place = jax.lax.top_k(scores, min(places, scores.shape[1]))
    # What stands first wins among equals: earlier slices have the lower indices.
    best = jnp.concatenate([best, found], -1)
    items = jnp.concatenate([items, (start + place).astype(items.dtype)], -1)
    best, order = jax.lax.top_k(best, min(places, best.shape[1]))
    return best, jnp.take_along_axis(items, order, -1)
