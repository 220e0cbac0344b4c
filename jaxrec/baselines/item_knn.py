"""Item-kNN: the items that share most sessions with the last click.

similarity(i, j) = co(i, j) / sqrt((s_i + 20) (s_j + 20)), where co counts the sessions that hold both and s those that hold the one.
Every item keeps its 100 most similar others (baseline of Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks",
ICLR 2016).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from jaxrec.baselines.counts import event_counts, events_of, filling
from jaxrec.baselines.markov import rows_of_last
from jaxrec.data.blocks import SessionBlock
from jaxrec.data.dataset import Dataset

NEIGHBOURS = 100
REGULARISATION = 20
CHUNK = 512
TIE = 1e-5  # relative difference of similarity below which popularity decides: rare items often have exactly equal ones


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
        # Others are moved below zero, not neighbours up: similarities of a large log are too small to be added to 1 in float32.
        similarity, fill = encoded[:, start:stop].toarray(), self.fill[start:stop].astype(np.float32)
        return np.where(similarity > 0, similarity * (1 + TIE * fill), fill - 1)


def fit_item_knn(dataset: Dataset, sessions: Sequence[int]) -> ItemKnn:
    """Count the shared sessions among the given ones; memory is bounded by the neighbours and `CHUNK` rows of all pairs."""
    holders = _holders(dataset, sessions)
    held, scale = holders.T.tocsr(), 1 / np.sqrt(np.diff(holders.indptr) + REGULARISATION)
    chunks = [_neighbours(holders, held, scale, start) for start in range(0, dataset.n_items, CHUNK)]
    return ItemKnn(sparse.vstack(chunks, format="csr"), filling(event_counts(dataset, sessions)))


def _holders(dataset: Dataset, sessions: Sequence[int]) -> sparse.csr_array:
    """1 where an item occurs in a session, sparse [items, sessions]."""
    items, session = events_of(dataset, sessions)
    holders = sparse.csr_array((np.ones(len(items), np.float32), (items, session)), shape=(dataset.n_items, len(sessions)))
    holders.data[:] = 1
    return holders


def _neighbours(holders: sparse.csr_array, held: sparse.csr_array, scale: np.ndarray, start: int) -> sparse.csr_array:
    """Similarities of the items from `start` on to their neighbours, sparse [at most CHUNK, items]."""
    shared = (holders[start : start + CHUNK] @ held).tocoo()
    other = shared.col != shared.row + start
    row, column = shared.row[other], shared.col[other]
    similarity = (shared.data[other] * scale[row + start] * scale[column]).astype(np.float32)
    order = np.lexsort((column, -similarity, row))
    place = np.arange(len(order)) - np.searchsorted(row[order], row[order])
    kept = order[place < NEIGHBOURS]
    return sparse.csr_array((similarity[kept], (row[kept], column[kept])), shape=shared.shape)
