"""Rows of large sparse matrices: sessions by their items, what is kept of a row, how many rows fit into memory at a time."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from scipy import sparse

from jaxrec.baselines.counts import clicks_of
from jaxrec.data.dataset import Dataset

LONGEST = 200
"""Events of a session that neighbours are counted by, its last ones: people rarely click more. The pairs of a session grow with its
square: one robot could cost as much as a million people."""


def by_rows(data: np.ndarray, columns: np.ndarray, ends: np.ndarray, n_columns: int) -> sparse.csr_array:
    """Stored values and their columns, row after row, as a matrix; row r has those from ends[r] to ends[r + 1].

    Where 32 bits can number them they do: SciPy would give every column the 64 bits of `ends`, which a large log has no memory for.
    """
    narrow = ends[-1] <= np.iinfo(np.int32).max
    return sparse.csr_array((data, columns, ends.astype(np.int32) if narrow else ends), shape=(len(ends) - 1, n_columns))


def holding(dataset: Dataset, sessions: Sequence[int]) -> sparse.csr_array:
    """1 where a session holds an item, among its last `LONGEST` events, sparse [sessions, items] float32; items in growing order."""
    items, offsets = clicks_of(dataset, sessions, LONGEST)
    found = by_rows(np.ones(len(items), np.float32), items, offsets, dataset.n_items)
    found.sum_duplicates()
    found.data[:] = 1
    return found


def only(matrix: sparse.csr_array, kept: np.ndarray) -> sparse.csr_array:
    """The matrix with some of its stored values alone; `kept` is bool, one for each of them."""
    places = np.flatnonzero(kept)
    return by_rows(matrix.data[places], matrix.indices[places], np.searchsorted(places, matrix.indptr), matrix.shape[1])


def last(matrix: sparse.csr_array, n: int) -> sparse.csr_array:
    """The n last stored values of each row.

    >>> last(sparse.csr_array([[5, 0, 4, 3], [0, 2, 0, 0]]), 2).toarray()
    array([[0, 0, 4, 3],
           [0, 2, 0, 0]])
    """
    after = np.repeat(matrix.indptr[1:], np.diff(matrix.indptr))
    after -= np.arange(matrix.nnz, dtype=after.dtype)
    return only(matrix, after <= n)


def largest(matrix: sparse.csr_array, n: int) -> sparse.csr_array:
    """The n largest values of each row; of equal ones those that are stored last.

    >>> largest(sparse.csr_array([[5, 1, 1, 1], [0, 2, 0, 0]]), 2).toarray()
    array([[5, 0, 0, 1],
           [0, 2, 0, 0]])
    """
    kept = np.ones(matrix.nnz, bool)
    # Row by row: to sort all rows at once takes ten times as long as to find where each has to be cut.
    for row in np.flatnonzero(np.diff(matrix.indptr) > n):
        own = slice(matrix.indptr[row], matrix.indptr[row + 1])
        kept[own] = _are_largest(matrix.data[own], n)
    return only(matrix, kept)


def _are_largest(values: np.ndarray, n: int) -> np.ndarray:
    least = np.partition(values, len(values) - n)[len(values) - n]
    found = values >= least
    found[np.flatnonzero(values == least)[: np.count_nonzero(found) - n]] = False
    return found


def pieces(work: np.ndarray, most: int) -> Iterator[slice]:
    """Neighbouring rows in pieces of about `most` work, more only by what one row may add.

    >>> list(pieces(np.array([2, 2, 9, 1, 0, 1]), 4))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 6, None)]
    """
    work = np.asarray(work, np.int64)
    before = np.cumsum(work) - work
    first = np.flatnonzero(np.diff(before // most, prepend=-1))
    for start, stop in pairwise([*first.tolist(), len(work)]):
        yield slice(start, stop)


def stacked(parts: Iterable[sparse.csr_array], most: int, columns: int) -> sparse.csr_array:
    """Parts of one matrix of float32, row below row, held in memory once only; `most` values are stored in all of them at most."""
    data, indices, held, end = np.empty(most, np.float32), np.empty(most, np.int32), [np.zeros(1, np.int64)], 0
    for part in parts:
        data[end : end + part.nnz], indices[end : end + part.nnz] = part.data, part.indices
        held.append(np.diff(part.indptr))
        end += part.nnz
    return by_rows(data[:end], indices[:end], np.cumsum(np.concatenate(held), dtype=np.int64), columns)
