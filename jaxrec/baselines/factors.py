"""Matrix factorisation: vectors of items and of those who clicked them, whose products say what they would click.

bpr_mf: Bayesian personalised ranking (Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009). The rows of
its matrix are sessions, and a running session is the mean of its items' vectors, as in the comparisons of Hidasi et al. ("Session-based
Recommendations with Recurrent Neural Networks", ICLR 2016).
als: alternating least squares (Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008). The rows are
users, or sessions where nobody is named; an item clicked n times has the confidence 1 + `ALPHA` n.

`ALPHA` is that of the paper: on the last tenth of rsc15_100k's training sessions by far the best of 1, 5, 20 and 40; on that of taobao
categories equal in Recall@20, behind 1 in MRR@20. BPR's rate and regularisation are the best of nine pairs on rsc15_100k and near it on
taobao.

Dimensions: P predictions of a block, F numbers of a vector.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy import sparse

from jaxrec.baselines.counts import clicks_so_far, events_of
from jaxrec.baselines.fold_in import fold_in, square
from jaxrec.baselines.implicit_library import fitted
from jaxrec.data.blocks import SessionBlock
from jaxrec.data.dataset import Dataset

# The library shares out BPR's updates to threads that race with each other: one thread gives the same vectors each time.
BPR = {"factors": 100, "learning_rate": 0.1, "regularization": 0.001, "iterations": 100, "num_threads": 1}
ALS = {"factors": 64, "regularization": 0.01, "iterations": 15}
ALPHA = 40.0
WORTH_THREADS = 2**20  # clicks; fewer are sooner done by one thread than shared out
NEVER = np.float32(-1e30)
"""Bias of an item that nobody clicked: it comes last, and stays finite."""


@dataclasses.dataclass(frozen=True)
class Factors:
    """Ranks by the product of a vector for the user, or the session, with the vector of the item.

    Attributes:
      vectors: of items, [items, F] float32.
      bias: what an item scores in addition, [items] float32; `NEVER` where it is not among the events that were fitted.
      encode: the vector after each prediction of a block, [P, F] float32.
    """

    vectors: np.ndarray
    bias: np.ndarray
    encode: Callable[[SessionBlock], np.ndarray]

    def scores(self, encoded: np.ndarray, start: int, stop: int) -> np.ndarray:
        return encoded @ self.vectors[start:stop].T + self.bias[start:stop]


def fit_bpr_mf(dataset: Dataset, sessions: Sequence[int]) -> Factors:
    """Fit to the given sessions; a running session is the mean vector of its clicks so far.

    Raises:
      InputError: the library implicit is missing.
    """
    sessions = _with_clicks(dataset, sessions)
    items, session = events_of(dataset, sessions)
    clicks = _clicks(session, items, (len(sessions), dataset.n_items))
    clicks.data[:] = 1
    found = fitted("bpr_mf", "bpr", clicks, **BPR).item_factors
    vectors = np.ascontiguousarray(found[:, :-1])  # the library keeps the bias behind
    return Factors(vectors, _bias(clicks, found[:, -1]), partial(_mean_click, vectors))


def fit_als(dataset: Dataset, sessions: Sequence[int]) -> Factors:
    """Fit to the users of the given sessions; whoever has no events in them is the average one.

    Raises:
      InputError: the library implicit is missing.
    """
    clicks, vectors, known, found = _als("als", dataset, sessions)
    average = found.sum(axis=0, keepdims=True) / max(len(found), 1)
    users = np.repeat(average, dataset.n_users + 1, axis=0)
    users[known[known < dataset.n_users]] = found[known < dataset.n_users]
    return Factors(vectors, _bias(clicks, 0), partial(_user, users))


def fit_als_session(dataset: Dataset, sessions: Sequence[int]) -> Factors:
    """Fit items as `fit_als` does; the user's vector is folded in from what was clicked before the session and in it so far.

    Raises:
      InputError: the library implicit is missing.
    """
    clicks, vectors, *_ = _als("als_session", dataset, sessions)
    return Factors(vectors, _bias(clicks, 0), partial(_folded_in, vectors, square(vectors, ALS["regularization"])))


def _mean_click(vectors: np.ndarray, block: SessionBlock) -> np.ndarray:
    clicks = _session_clicks(block, len(vectors))
    return clicks @ vectors / clicks.sum(axis=1, dtype=np.float32)[:, None]


def _user(users: np.ndarray, block: SessionBlock) -> np.ndarray:
    return users[block.users[block.predictions()[0]]]  # nobody is -1: the last row, the average


def _folded_in(vectors: np.ndarray, shared: np.ndarray, block: SessionBlock) -> np.ndarray:
    clicks = _session_clicks(block, len(vectors)) + _history_clicks(block, len(vectors))
    return fold_in(vectors, shared, ALPHA * clicks)


def _session_clicks(block: SessionBlock, n_items: int) -> sparse.csr_array:
    """How often items were clicked in the session by the time of each prediction, sparse [P, items] float32."""
    prediction, _, item = clicks_so_far(block)
    shape = (len(block.predictions()[0]), n_items)
    return sparse.csr_array((np.ones(len(item), np.float32), (prediction, item)), shape=shape)


def _history_clicks(block: SessionBlock, n_items: int) -> sparse.csr_array:
    """How often the user of each prediction clicked items before the session, sparse [P, items] float32."""
    row, place = np.nonzero(block.history_items >= 0)
    entries = (block.history_counts[row, place], (row, block.history_items[row, place]))
    return sparse.csr_array(entries, shape=(len(block.items), n_items))[block.predictions()[0]]


def _als(name: str, dataset: Dataset, sessions: Sequence[int]) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray, np.ndarray]:
    """(clicks [rows, items], item vectors [items, F], user of every row, or n_users and more, [rows], their vectors [rows, F])."""
    sessions = _with_clicks(dataset, sessions)
    items, session = events_of(dataset, sessions)
    users = dataset.users[sessions]
    known, row = np.unique(np.where(users < 0, dataset.n_users + np.arange(len(users)), users), return_inverse=True)
    clicks = _clicks(row[session], items, (len(known), dataset.n_items))
    confidence = sparse.csr_matrix((1 + ALPHA * clicks.data, clicks.indices, clicks.indptr), clicks.shape)
    found = fitted(name, "als", confidence, num_threads=0 if clicks.nnz > WORTH_THREADS else 1, **ALS)
    return clicks, found.item_factors, known, found.user_factors


def _with_clicks(dataset: Dataset, sessions: Sequence[int]) -> np.ndarray:
    """The sessions that have any events: where only some events are learnt from, the others would be rows of nothing."""
    sessions = np.asarray(sessions, np.int64)
    return sessions[dataset.offsets[sessions + 1] > dataset.offsets[sessions]]


def _clicks(rows: np.ndarray, items: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """How often each row has each item, in the one type that the library reads, sparse float32."""
    return sparse.csr_matrix((np.ones(len(items), np.float32), (rows, items)), shape=shape)


def _bias(clicks: sparse.csr_matrix, bias: np.ndarray | float) -> np.ndarray:
    return np.where(np.bincount(clicks.indices, minlength=clicks.shape[1]) > 0, bias, NEVER).astype(np.float32)
