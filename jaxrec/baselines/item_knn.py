"""Item-kNN: the items that share most sessions with the last click.

similarity(i, j) = co(i, j) / sqrt((s_i + 20) (s_j + 20)), where co counts the sessions that hold both and s those that hold the one.
Every item keeps its 100 most similar others; itself is none of them, so that the last click is never recommended. Of sessions longer than
`sparse_rows.LONGEST` events the last ones count (baseline of Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks",
ICLR 2016).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from jaxrec.baselines.counts import before_others, event_counts, filling
from jaxrec.baselines.markov import rows_of_last
from jaxrec.baselines.sparse_rows import holding, largest, pieces, stacked
from jaxrec.data.blocks import SessionBlock
from jaxrec.data.dataset import Dataset

NEIGHBOURS = 100
REGULARISATION = 20
PAIRS_AT_ONCE = 2**24
"""Pairs of events in one session whose similarities are in memory at a time, 8 bytes each."""


@dataclasses.dataclass(frozen=True)
class ItemKnn:
    """Ranks first the neighbours of the last click by similarity, equal ones by popularity, then all others by popularity.

    Attributes:
      similar: similarity of item `row` to each of its neighbours, sparse [items, items]; 0 for others and for itself.
      fill: popularity in [0, 1), [items].
    """

    similar: sparse.csr_array
    fill: np.ndarray

    def encode(self, block: SessionBlock) -> sparse.csr_array:
        return rows_of_last(self.similar, block)

    def scores(self, encoded: sparse.csr_array, start: int, stop: int) -> np.ndarray:
        return before_others(encoded[:, start:stop].toarray(), self.fill[start:stop])


def fit_item_knn(dataset: Dataset, sessions: Sequence[int]) -> ItemKnn:
    """Count the shared sessions among the given ones; memory is bounded by the events, the neighbours and `PAIRS_AT_ONCE`."""
    fill = filling(event_counts(dataset, sessions))  # first: it needs memory for a moment that the similarities keep
    return ItemKnn(_similar(holding(dataset, sessions)), fill)


def _similar(held: sparse.csr_array) -> sparse.csr_array:
    """Similarities of all items to their neighbours, sparse [items, items], from sessions as `holding` gives them."""
    holders = held.T.tocsr()
    pairs = holders @ np.diff(held.indptr).astype(np.float32)
    scale = (1 / np.sqrt(np.diff(holders.indptr) + REGULARISATION)).astype(np.float32)
    parts = (_neighbours(holders[rows], held, scale, rows.start) for rows in pieces(pairs, PAIRS_AT_ONCE))
    return stacked(parts, np.minimum(pairs, NEIGHBOURS).sum(dtype=np.int64), held.shape[1])


def _neighbours(holders: sparse.csr_array, held: sparse.csr_array, scale: np.ndarray, start: int) -> sparse.csr_array:
    """Similarities of the items from `start` on to their neighbours, sparse [items of `holders`, items]."""
    shared = holders @ held
    item = np.repeat(np.arange(start, start + shared.shape[0], dtype=np.int32), np.diff(shared.indptr))
    shared.data *= scale[item]
    shared.data *= scale[shared.indices]
    shared.data[shared.indices == item] = 0
    return largest(shared, NEIGHBOURS)
