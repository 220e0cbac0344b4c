"""Vectors of users that a factorisation has not seen, from their clicks alone: one ridge regression each.

Dimensions: R rows, F numbers of a vector.
"""

from itertools import pairwise

import numpy as np
from scipy import sparse

from jaxrec.baselines.sparse_rows import pieces

NUMBERS_AT_ONCE = 2**23
"""Numbers of the equations in memory at a time."""


def square(vectors: np.ndarray, regularisation: float) -> np.ndarray:
    """Y'Y + regularisation I of the items' vectors Y [items, F], the part of the equations that all rows share, [F, F] float64."""
    return (vectors.T @ vectors).astype(np.float64) + regularisation * np.eye(vectors.shape[1])


def fold_in(vectors: np.ndarray, shared: np.ndarray, extra: sparse.csr_array) -> np.ndarray:
    """The vectors x that best explain the clicks of each row with the items' vectors Y as they are, [R, F] float32.

    x = (Y'Y + Y' diag(c - 1) Y + regularisation I)^-1 Y' diag(c) p, where c is the confidence in each item, 1 for those that were not
    clicked, and p is 1 for those that were (Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008).

    Args:
      vectors: Y, [items, F].
      shared: `square` of them, [F, F].
      extra: c - 1 of the items that were clicked, sparse [R, items], nowhere negative; each stored once.
    """
    rows = pieces(np.full(extra.shape[0], shared.size), NUMBERS_AT_ONCE)
    return np.concatenate([np.zeros((0, len(shared)), np.float32), *(_solved(vectors, shared, extra[some]) for some in rows)])


def _solved(vectors: np.ndarray, shared: np.ndarray, extra: sparse.csr_array) -> np.ndarray:
    equations, right = np.empty((extra.shape[0], *shared.shape)), np.empty((extra.shape[0], len(shared)))
    # Row by row: padded to the longest they would not fit into memory where one of them has thousands of items.
    for row, (start, stop) in enumerate(pairwise(extra.indptr)):
        own, weight = vectors[extra.indices[start:stop]].astype(np.float64), extra.data[start:stop]
        equations[row] = shared + own.T @ (weight[:, None] * own)
        right[row] = (1 + weight) @ own
    return np.linalg.solve(equations, right[:, :, None])[:, :, 0].astype(np.float32)
