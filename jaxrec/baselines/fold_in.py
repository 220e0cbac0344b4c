"""Vectors of users that a factorisation has not seen, from their clicks alone: one ridge regression each.

Dimensions: R rows, F numbers of a vector, K distinct items of a row.
"""

import numpy as np
from scipy import sparse

from jaxrec.baselines.sparse_rows import pieces
from jaxrec.data.blocks import runs

NUMBERS_AT_ONCE = 2**23
"""Numbers of the equations in memory at a time."""


def fold_in(vectors: np.ndarray, extra: sparse.csr_array, regularisation: float) -> np.ndarray:
    """The vectors x that best explain the clicks of each row with the items' vectors Y as they are, [R, F] float32.

    x = (Y'Y + Y' diag(c - 1) Y + regularisation I)^-1 Y' diag(c) p, where c is the confidence in each item, 1 for those that were not
    clicked, and p is 1 for those that were (Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008).

    Args:
      vectors: Y, [items, F].
      extra: c - 1 of the items that were clicked, sparse [R, items], nowhere negative; each stored once.
    """
    size = vectors.shape[1]
    square = vectors.T.astype(np.float64) @ vectors + regularisation * np.eye(size)
    work = (np.diff(extra.indptr).astype(np.int64) + size) * size
    parts = [_solved(vectors, square, extra[rows]) for rows in pieces(work, NUMBERS_AT_ONCE)]
    return np.concatenate(parts).astype(np.float32)


def _solved(vectors: np.ndarray, square: np.ndarray, extra: sparse.csr_array) -> np.ndarray:
    row, place = runs(np.diff(extra.indptr))
    own = np.zeros((extra.shape[0], int(np.diff(extra.indptr).max()), vectors.shape[1]))
    weight = np.zeros(own.shape[:2])
    own[row, place], weight[row, place] = vectors[extra.indices], extra.data
    equations = square + np.swapaxes(own * weight[:, :, None], 1, 2) @ own
    return np.linalg.solve(equations, ((1 + weight)[:, :, None] * own).sum(axis=1)[:, :, None])[:, :, 0]
