"""Candidates: what several models propose to each user, merged into one list.

Sources take turns: the best of each, then the second of each, and so on; an item counts where it comes first. Popular items fill what is
left. Any baseline can be a source. Two are made for it, because a user's whole past asks for candidates, not the last click:

    item_knn       score(j) = sum over own items i of w_i similarity(i, j)
    user_history   score(j) = w_j

where w_i adds 1 / (1 + n) for each of the user's clicks on i, n sessions back. DeepRec (WWW 2021) says no more than that its picker is a
collaborative filter; item-kNN over what users bought is ours.

Dimensions: S sources, U users, P predictions of a block, N candidates.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from jaxrec.baselines.counts import event_counts, filling
from jaxrec.baselines.item_knn import ItemKnn, fit_item_knn
from jaxrec.baselines.registry import BASELINES
from jaxrec.data.blocks import SessionBlock, runs
from jaxrec.data.dataset import Dataset
from jaxrec.evaluation.lists import best_items
from jaxrec.evaluation.scorer import Scorer

NOBODY = 255
"""Source of a place that holds no item."""


class Candidates(NamedTuple):
    """Lists of users, best first.

    Attributes:
      items: [U, N] int32; -1 behind the end of a list.
      sources: number of the source that gave each, S for popularity that fills up, `NOBODY` where there is none, [U, N] uint8.
      places: which place it had there, from 0, [U, N] uint16.
    """

    items: np.ndarray
    sources: np.ndarray
    places: np.ndarray


@dataclasses.dataclass(frozen=True)
class FromHistory:
    """Ranks first what is similar to all that the user clicked, by the sum of the module's docstring, then all others by popularity.

    Attributes:
      knn: similarities, and how others are ordered.
    """

    knn: ItemKnn

    def encode(self, block: SessionBlock) -> sparse.csr_array:
        return _clicks(block, self.knn.similar.shape[0]) @ self.knn.similar

    def scores(self, encoded: sparse.csr_array, start: int, stop: int) -> np.ndarray:
        return self.knn.scores(encoded, start, stop)


def fit_item_knn_of_history(dataset: Dataset, sessions: Sequence[int]) -> FromHistory:
    """Similarities from the given sessions, as `item_knn` has them."""
    return FromHistory(fit_item_knn(dataset, sessions))


def fit_own_items(dataset: Dataset, sessions: Sequence[int]) -> FromHistory:
    """Every item is similar to itself alone."""
    own = sparse.eye_array(dataset.n_items, dtype=np.float32, format="csr")
    return FromHistory(ItemKnn(own, filling(event_counts(dataset, sessions))))


SOURCES: dict[str, Callable[[Dataset, Sequence[int]], Scorer]] = BASELINES | {
    "item_knn": fit_item_knn_of_history,
    "user_history": fit_own_items,
}
"""Every source by its name; fitted like a baseline."""


def _clicks(block: SessionBlock, n_items: int) -> sparse.csr_array:
    """Weights of what the user of each prediction clicked, in the session and before, sparse [P, items]."""
    row, step = block.predictions()
    held, place = np.nonzero(block.history_items >= 0)
    entries = block.history_decayed[held, place], (held, block.history_items[held, place])
    before = sparse.csr_array(entries, shape=(len(block.items), n_items))[row]
    prediction, place = runs(step + 1)
    items = block.items[row[prediction], place]
    return before + sparse.csr_array((np.ones(len(items), np.float32), (prediction, items)), shape=before.shape)


def by_popularity(counts: np.ndarray) -> np.ndarray:
    """All items, most clicks first, of equal ones the lower index, [items] int32."""
    return np.argsort(-counts, kind="stable").astype(np.int32)


def proposed(scorer: Scorer, block: SessionBlock, popularity: np.ndarray, n: int) -> np.ndarray:
    """The n best items of each prediction, best first, [P, n] int32; -1 where there are no more.

    A model that encodes a block as a sparse matrix speaks for its positive entries; others it ranks by popularity, which fills lists
    anyway. So a large catalogue costs it nothing. The catalogue of any other model is streamed in slices.

    Args:
      popularity: place of every item among all by popularity, [items]; of equal entries of a sparse matrix the more popular is first.
    """
    encoded, predictions = scorer.encode(block), np.count_nonzero(block.mask)
    found = np.full((predictions, n), -1, np.int32)
    if sparse.issparse(encoded):
        row, place, items = _best_entries(encoded[:predictions], popularity, n)
        found[row, place] = items
    else:
        best = best_items(scorer, encoded, block, len(popularity), n)
        found[:, : best.shape[1]] = best
    return found


def _best_entries(scores: sparse.csr_array, popularity: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, place, item) of the n largest positive entries of each row."""
    entries = scores.tocoo()
    positive = entries.data > 0
    row, items, value = entries.row[positive], entries.col[positive], entries.data[positive]
    order = np.lexsort((popularity[items], -value, row))
    place = runs(np.bincount(row, minlength=scores.shape[0]))[1]
    kept = place < n
    return row[order][kept], place[kept], items[order][kept]


def merged(proposals: np.ndarray, popular: np.ndarray) -> Candidates:
    """One list of each user from what every source proposed, filled up with popular items; a shorter list is a prefix of a longer one.

    Args:
      proposals: best first, -1 behind the end, [S, U, N] int32.
      popular: all items by popularity.
    """
    sources, users, n = proposals.shape
    turns = proposals.transpose(1, 2, 0).reshape(users, -1)
    filling = popular[:n]  # enough: as many of them as a list already holds, it has places filled
    items = np.concatenate([turns, np.broadcast_to(filling, (users, len(filling)))], axis=1)
    first = _first_of_each(items)
    place = np.cumsum(first, axis=1) - 1
    row, column = np.nonzero(first & (place < n))
    place, filled = place[row, column], column >= turns.shape[1]
    found = Candidates(np.full((users, n), -1, np.int32), np.full((users, n), NOBODY, np.uint8), np.zeros((users, n), np.uint16))
    found.items[row, place] = items[row, column]
    found.sources[row, place] = np.where(filled, sources, column % sources)
    found.places[row, place] = np.where(filled, column - turns.shape[1], column // sources)
    return found


def _first_of_each(items: np.ndarray) -> np.ndarray:
    """Where an item stands in its row for the first time, [U, columns] bool; never where it is -1."""
    order = np.argsort(items, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, axis=1)
    new = (np.diff(ordered, axis=1, prepend=-1) != 0) & (ordered >= 0)
    first = np.zeros(items.shape, bool)
    np.put_along_axis(first, order, new, axis=1)
    return first
