"""First-order Markov chain over items: what followed the last click, and how often."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from jaxrec.baselines.counts import event_counts, events_of, filling
from jaxrec.data.blocks import SessionBlock
from jaxrec.data.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class Markov:
    """Ranks first what followed the last click, by how often; then and among equals by popularity.

    Attributes:
      pairs: how often item `column` followed item `row`, sparse [items, items].
      fill: popularity in [0, 1), [items].
    """

    pairs: sparse.csr_array
    fill: np.ndarray

    def encode(self, block: SessionBlock) -> sparse.csr_array:
        return rows_of_last(self.pairs, block)

    def scores(self, encoded: sparse.csr_array, start: int, stop: int) -> np.ndarray:
        return encoded[:, start:stop].toarray() + self.fill[start:stop].astype(np.float32)


def fit_markov(dataset: Dataset, sessions: Sequence[int]) -> Markov:
    """Count the adjacent pairs of the given sessions."""
    return Markov(pair_counts(dataset, sessions), filling(event_counts(dataset, sessions)))


def pair_counts(dataset: Dataset, sessions: Sequence[int]) -> sparse.csr_array:
    """How often item `column` came right after item `row` in one of the given sessions, sparse [items, items] float32."""
    items, session = events_of(dataset, sessions)
    same = session[1:] == session[:-1]
    ones = np.ones(np.count_nonzero(same), np.float32)
    return sparse.csr_array((ones, (items[:-1][same], items[1:][same])), shape=(dataset.n_items, dataset.n_items))


def rows_of_last(matrix: sparse.csr_array, block: SessionBlock) -> sparse.csr_array:
    """The matrix's row of the item read before each prediction, sparse [P, columns]."""
    return matrix[block.items[block.predictions()]]
