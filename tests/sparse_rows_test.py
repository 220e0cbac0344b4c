"""Rows of sparse matrices: cut where they should be, and every row in exactly one piece."""

import numpy as np
import pytest
from scipy import sparse
from small_baselines import dataset_of

from jaxrec.baselines import sparse_rows
from jaxrec.baselines.counts import clicks_of
from jaxrec.baselines.sparse_rows import holding, largest, last, pieces, stacked


@pytest.fixture(scope="module")
def matrix():
    """Rows of 0 to 20 stored values, many of them equal."""
    rng = np.random.default_rng(0)
    return sparse.csr_array(rng.integers(0, 4, (30, 20)) * (rng.random((30, 20)) < rng.random((30, 1)))).astype(np.float32)


@pytest.mark.parametrize("n", [1, 3, 25])
def test_rows_are_cut_as_one_by_one(matrix, n):
    for row, (latest, most) in enumerate(zip(last(matrix, n).toarray(), largest(matrix, n).toarray(), strict=True)):
        values = matrix.toarray()[row]
        places = np.flatnonzero(values)
        by_place, by_value = np.zeros_like(values), np.zeros_like(values)
        by_place[places[-n:]] = values[places[-n:]]
        strongest = np.lexsort((places, values[places]))[-n:]
        by_value[places[strongest]] = values[places[strongest]]
        np.testing.assert_array_equal(latest, by_place)
        np.testing.assert_array_equal(most, by_value)


@pytest.mark.parametrize("most", [1, 7, 30, 10**6])
def test_every_row_is_in_one_piece_of_bounded_work(most):
    work = np.random.default_rng(0).integers(0, 12, 100)
    found = list(pieces(work, most))
    assert np.concatenate([np.arange(100)[rows] for rows in found]).tolist() == list(range(100))
    assert all(work[rows].sum() <= most + work.max() for rows in found)
    assert list(pieces(np.zeros(0), most)) == []


def test_stacked_parts_are_the_whole(matrix):
    found = stacked((matrix[rows] for rows in pieces(np.ones(30), 4)), matrix.nnz + 5, 20)
    np.testing.assert_array_equal(found.toarray(), matrix.toarray())


def test_sessions_hold_each_of_their_last_items_once(monkeypatch):
    dataset = dataset_of([[0, 1, 1], [2, 3, 3, 1], [0, 2]], 5)
    assert holding(dataset, [2, 1]).toarray().tolist() == [[1, 0, 1, 0, 0], [0, 1, 1, 1, 0]]
    monkeypatch.setattr(sparse_rows, "LONGEST", 2)
    assert holding(dataset, [2, 1]).toarray().tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 1, 0]]


def test_places_take_32_bits():
    """With 64 the pairs of a hundred million events would not fit into 8 GB."""
    held = holding(dataset_of([[0, 1, 1], [2, 3, 3, 1], [0, 2]], 5), range(3))
    for found in (held, held.T.tocsr(), held.T.tocsr() @ held, last(held, 1), largest(held, 1), stacked([held, held], 14, 5)):
        assert found.indices.dtype == found.indptr.dtype == np.int32
        assert found.data.dtype == np.float32


def test_the_last_clicks_of_some_sessions():
    dataset = dataset_of([[0, 1], [2, 3, 1], [4, 0]], 5)
    items, offsets = clicks_of(dataset, [1, 0], most=2)
    assert items.tolist() == [3, 1, 0, 1] and offsets.tolist() == [0, 2, 4]
