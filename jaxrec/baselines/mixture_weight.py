"""The weight of a mixture of Markov chain and user history, chosen by the exact MRR@20 of each candidate weight.

Scoring the whole catalogue once per weight is slow where it is large. But all items that neither followed the last click nor are the
user's own are ordered by popularity, so the rank of a target is a look-up among the popularities, corrected by the few other items.

Dimensions: P predictions, E entries: pairs of a prediction and an item that followed, is the user's own or is the target.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from jaxrec.data.blocks import SessionBlock

CUTOFF = 20
ROUNDING = 1e-9  # relative; items as popular as the target must not count as more popular


class Entries(NamedTuple):
    """What distinguishes items from their popularity, by prediction.

    Attributes:
      prediction, item: which entry it is, [E] each.
      seen: how often the item followed the last click, [E].
      own: how often the user clicked it so far, [E].
      target: entry of each prediction's target, [P].
      last: item read by each prediction, [P].
      clicks: clicks of the user so far, [P].
    """

    prediction: np.ndarray
    item: np.ndarray
    seen: np.ndarray
    own: np.ndarray
    target: np.ndarray
    last: np.ndarray
    clicks: np.ndarray


def entries(pairs: sparse.csr_array, block: SessionBlock) -> Entries:
    """Collect a block's entries; `pairs` counts what followed what, sparse [items, items]."""
    row, step = np.nonzero(block.mask)
    last, n_items = block.items[row, step], pairs.shape[1]
    followers = pairs[last].tocoo()
    past, place = np.nonzero(block.history_items[row] >= 0)
    present, earlier = np.nonzero(np.arange(block.mask.shape[1]) <= step[:, None])
    targets = np.arange(len(row)) * n_items + block.items[row, step + 1]
    parts = [
        followers.row.astype(np.int64) * n_items + followers.col,
        past * n_items + block.history_items[row[past], place],
        present * n_items + block.items[row[present], earlier],
        targets,
    ]
    keys, where = np.unique(np.concatenate(parts), return_inverse=True)
    _, end = np.cumsum([followers.nnz, len(past) + len(present)])
    counts = np.concatenate([block.history_counts[row[past], place], np.ones(len(present))])
    seen = np.bincount(where[: followers.nnz], followers.data, len(keys))
    own = np.bincount(where[followers.nnz : end], counts, len(keys))
    prediction, item = np.divmod(keys, n_items)
    return Entries(prediction, item, seen, own, where[end:], last, np.bincount(prediction, own, len(row)))


def ranks(some: Entries, followed: np.ndarray, popular: np.ndarray, smoothing: float, weight: float) -> np.ndarray:
    """Rank of every target under the mixture with a weight below 1, ties in its favour, [P]; arguments as in `MarkovUserHistory`."""
    total = followed[some.last].astype(np.float64) + smoothing
    everybody = (some.seen + smoothing * popular[some.item]) / total[some.prediction]
    scores = (1 - weight) * everybody + weight * some.own / some.clicks[some.prediction]
    of_target = scores[some.target]
    popular_enough = of_target * total / ((1 - weight) * smoothing) * (1 + ROUNDING)
    more = len(popular) - np.searchsorted(np.sort(popular), popular_enough, side="right")
    beats = scores > of_target[some.prediction] * (1 + ROUNDING)
    counted = popular[some.item] > popular_enough[some.prediction]
    correction = np.bincount(some.prediction, beats.astype(np.float64) - counted, len(more))
    return more + correction.astype(np.int64) + 1


def best_weight(
    pairs: sparse.csr_array,
    blocks: Sequence[SessionBlock],
    followed: np.ndarray,
    popular: np.ndarray,
    smoothing: float,
    weights: Sequence[float],
) -> float:
    """The weight with the highest MRR@20 over the blocks; the first of equal ones."""
    quality = np.zeros(len(weights))
    for block in blocks:
        some = entries(pairs, block)
        for place, weight in enumerate(weights):
            found = ranks(some, followed, popular, smoothing, weight)
            quality[place] += np.where(found <= CUTOFF, 1 / found, 0).sum()
    return weights[int(np.argmax(quality))]
