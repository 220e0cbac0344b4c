"""Session-kNN: what people clicked in the sessions that are most like the running one.

V-SKNN, vector multiplication (Ludewig and Jannach, "Evaluation of session-based recommendation algorithms", User Modeling and User-Adapted
Interaction 28, 2018):

* Candidates are the `SAMPLE` sessions that started last among those that share an item with the running session.
* The running session is a vector of its items: the last click weighs 1, the i-th of n clicks i / n; an item counts where it was clicked
  last. Its product with a candidate's items, 1 each, is the similarity; the `NEIGHBOURS` most similar candidates remain, of equal ones the
  later.
* An item scores the similarities of all neighbours that hold it, each times max(0, 1 - i / 10), where the last item that the neighbour
  shares with the running session was its i-th click from the end, the last click being the first.

100 neighbours of 1,000 candidates are the defaults of the authors' session-rec; on the last tenth of rsc15_100k's training sessions they
are no worse than 500 of 5,000. Of sessions longer than `sparse_rows.LONGEST` events, the running one too, the last ones count.

Dimensions: P predictions of a block, N neighbours of all of them, E events of all neighbours.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from jaxrec.baselines.counts import before_others, clicks_so_far, event_counts, filling
from jaxrec.baselines.sparse_rows import LONGEST, by_rows, holding, largest, last, pieces
from jaxrec.data.blocks import SessionBlock, runs
from jaxrec.data.dataset import Dataset

NEIGHBOURS = 100
SAMPLE = 1000
FORGOTTEN = 10
"""Clicks after which a shared item no longer speaks for a neighbour."""
CANDIDATES_AT_ONCE = 2**23
"""Pairs of a prediction's item and a session that holds it, in memory at a time, 8 bytes each."""


class Running(NamedTuple):
    """The distinct items of the sessions so far, prediction after prediction, by item, [entries] each.

    Attributes:
      prediction, item: which entry it is.
      ago: clicks from the item's last one to the end of the session so far, 1 for the last click.
      weight: of the item in its session's vector, float32.
    """

    prediction: np.ndarray
    item: np.ndarray
    ago: np.ndarray
    weight: np.ndarray


@dataclasses.dataclass(frozen=True)
class SessionKnn:
    """Ranks first what the neighbours hold by the score of the module's docstring, then all others by popularity.

    Attributes:
      sessions: 1 where a session holds an item, oldest session first, sparse [sessions, items].
      recent: the same the other way round, of every item the last `SAMPLE` sessions alone, sparse [items, sessions]: no others can be
        among the last of those that share any item.
      fill: popularity in [0, 1), [items].
    """

    sessions: sparse.csr_array
    recent: sparse.csr_array
    fill: np.ndarray

    def encode(self, block: SessionBlock) -> sparse.csr_array:
        running, n_items = _running(block), len(self.fill)
        predictions = len(block.predictions()[0])
        rows = np.append(0, np.cumsum(np.bincount(running.prediction, minlength=predictions)))
        vectors = by_rows(running.weight, running.item, rows, n_items)
        work = np.add.reduceat(np.diff(self.recent.indptr)[running.item], rows[:-1])
        parts = [self._scored(vectors[some], some.start, running) for some in pieces(work, CANDIDATES_AT_ONCE)]
        return sparse.vstack(parts or [sparse.csr_array((0, n_items), dtype=np.float32)], format="csr")

    def scores(self, encoded: sparse.csr_array, start: int, stop: int) -> np.ndarray:
        return before_others(encoded[:, start:stop].toarray(), self.fill[start:stop])

    def _scored(self, vectors: sparse.csr_array, first: int, running: Running) -> sparse.csr_array:
        """Scores of items after the predictions from `first` on, whose vectors are given, sparse [predictions of them, items]."""
        similar = vectors @ self.recent
        similar.sort_indices()
        similar = largest(last(similar, SAMPLE), NEIGHBOURS)
        prediction = np.repeat(np.arange(similar.shape[0]), np.diff(similar.indptr))
        neighbour, item = _items_of(self.sessions, similar.indices)
        ago = _ago(running, first + prediction[neighbour], item, len(self.fill))
        latest = np.minimum.reduceat(ago, np.searchsorted(neighbour, np.arange(similar.nnz))) if similar.nnz else ago
        worth = (similar.data * np.maximum(0, 1 - latest / FORGOTTEN)).astype(np.float32)
        return sparse.csr_array((worth[neighbour], (prediction[neighbour], item)), shape=vectors.shape)


def fit_session_knn(dataset: Dataset, sessions: Sequence[int]) -> SessionKnn:
    """Keep the given sessions, in order of their numbers, which is that of their starts within a period."""
    fill = filling(event_counts(dataset, sessions))
    held = holding(dataset, np.sort(np.asarray(sessions, np.int64)))
    return SessionKnn(held, last(held.T.tocsr(), SAMPLE), fill)


def _running(block: SessionBlock) -> Running:
    """The items of the last `LONGEST` clicks that each prediction knows."""
    prediction, place, item = clicks_so_far(block)
    ago = block.predictions()[1][prediction] + 1 - place
    known = ago <= LONGEST
    prediction, item, ago = prediction[known], item[known], ago[known]
    order = np.lexsort((ago, item, prediction))
    prediction, item, ago = prediction[order], item[order], ago[order]
    clicks = np.minimum(block.predictions()[1] + 1, LONGEST)[prediction]
    latest = (np.diff(prediction, prepend=-1) != 0) | (np.diff(item, prepend=-1) != 0)
    weight = ((clicks + 1 - ago) / clicks).astype(np.float32)
    return Running(prediction[latest], item[latest], ago[latest], weight[latest])


def _items_of(sessions: sparse.csr_array, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(place of its session in `chosen`, item) of every item that the chosen sessions hold, [E] each."""
    number, place = runs(np.diff(sessions.indptr)[chosen])
    return number, sessions.indices[sessions.indptr[chosen][number] + place]


def _ago(running: Running, prediction: np.ndarray, item: np.ndarray, n_items: int) -> np.ndarray:
    """`Running.ago` of items at predictions, [E]; `FORGOTTEN` where the session so far does not hold them."""
    keys, wanted = running.prediction * n_items + running.item, prediction * n_items + item
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, running.ago[place], FORGOTTEN)
