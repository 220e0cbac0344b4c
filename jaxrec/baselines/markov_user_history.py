"""A mixture of what follows the last click for everybody and of what this user clicks: the strongest simple personal ranker.

    P(next = i) = (1 - w) P_markov(i | last) + w P_user(i)

P_markov(i | last) = (pairs(last, i) + a P_popular(i)) / (pairs(last, all) + a) with a = `SMOOTHING` imagined clicks; P_user is the
share of i among all the user's clicks so far, the current session included. The weight w is the one of `WEIGHTS` with the best MRR@20
on the last part of the sessions.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from jaxrec.baselines.counts import event_counts, own_counts
from jaxrec.baselines.markov import pair_counts, rows_of_last
from jaxrec.baselines.mixture_weight import best_weight
from jaxrec.data.blocks import SessionBlock, session_blocks
from jaxrec.data.dataset import Dataset

SMOOTHING = 20.0
WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
FITTED = 0.85
MOST_HELD_OUT = 1500


@dataclasses.dataclass(frozen=True)
class MarkovUserHistory:
    """Ranks by the mixture of the module's docstring.

    Attributes:
      pairs: how often item `column` followed item `row`, sparse [items, items].
      followed: how often an item was followed by any, [items] float32.
      popular: share of each item among all clicks, [items] float32.
      weight: share of the user's own distribution, 0 to 1.
    """

    pairs: sparse.csr_array
    followed: np.ndarray
    popular: np.ndarray
    weight: float

    def encode(self, block: SessionBlock) -> tuple[SessionBlock, sparse.csr_array]:
        return block, rows_of_last(self.pairs, block)

    def scores(self, encoded: tuple[SessionBlock, sparse.csr_array], start: int, stop: int) -> np.ndarray:
        block, followers = encoded
        row, step = block.predictions()
        seen = followers[:, start:stop].toarray()
        total = self.followed[block.items[row, step], None] + SMOOTHING
        everybody = (seen + SMOOTHING * self.popular[start:stop]) / total
        clicks = block.history_counts.sum(axis=1)[row] + step + 1
        own = own_counts(block, start, stop) / clicks[:, None]
        return ((1 - self.weight) * everybody + self.weight * own).astype(np.float32)


def fit_markov_user_history(dataset: Dataset, sessions: Sequence[int]) -> MarkovUserHistory:
    """Choose the weight on the last part of the given sessions, then count all of them.

    Histories reach back before the given sessions, as they do on a device.
    """
    ordered = np.sort(np.asarray(sessions, np.int64))
    cut = int(len(ordered) * FITTED)
    early = _mixture(dataset, ordered[:cut])
    weight = _best_weight(dataset, early, _spread(ordered[cut:], MOST_HELD_OUT))
    return dataclasses.replace(_mixture(dataset, ordered), weight=weight)


def _mixture(dataset: Dataset, sessions: np.ndarray) -> MarkovUserHistory:
    pairs, counts = pair_counts(dataset, sessions), event_counts(dataset, sessions)
    popular = (counts / max(counts.sum(), 1)).astype(np.float32)
    return MarkovUserHistory(pairs, pairs.sum(axis=1).astype(np.float32), popular, weight=0.0)


def _best_weight(dataset: Dataset, mixture: MarkovUserHistory, held_out: np.ndarray) -> float:
    blocks = session_blocks(dataset, held_out, predictions=256)
    return best_weight(mixture.pairs, blocks, mixture.followed, mixture.popular, SMOOTHING, WEIGHTS)


def _spread(sessions: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the sessions, evenly spread over them."""
    if len(sessions) <= most:
        return sessions
    return sessions[np.linspace(0, len(sessions) - 1, most).astype(np.int64)]
