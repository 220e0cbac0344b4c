"""Which models really differ: all pairs on the same predictions, paired by the bootstrap, corrected for how many are looked at.

Dimensions: C clusters, D draws, m comparisons.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr

from jaxrec.evaluation.intervals import DRAWS, limits, resampled

LEVEL = 0.05
"""Chance of calling any difference of a family real where none is."""
TINY = 1e-12
"""Errors below this are of rounding."""


class Difference(NamedTuple):
    """How far two models lie apart on the same predictions.

    Attributes:
      first, second: names of the models.
      metric: what is compared.
      value: the first's metric less the second's.
      interval: 95 % interval of it, for this pair alone.
      p: Holm-corrected probability of a difference so large where there is none.
    """

    first: str
    second: str
    metric: str
    value: float
    interval: list[float]
    p: float

    @property
    def real(self) -> bool:
        """Whether it stands up to the number of comparisons."""
        return self.p < LEVEL


def differences(sums: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str], seed: int = 0, draws: int = DRAWS) -> list[Difference]:
    """Every pair of models by every named metric, one family of comparisons.

    Args:
      sums: of metrics by cluster, as `cluster_sums` gives them, by model; all of the same predictions.
    """
    predictions = next(iter(sums.values()))["predictions"]
    if len(sums) < 2 or not len(predictions):
        return []
    keys = [(model, name) for model in sums for name in names]
    columns = np.stack([sums[model][name] for model, name in keys], -1)
    found = columns.sum(0) / predictions.sum()
    drawn = resampled(columns, predictions, seed, draws)
    place = {key: number for number, key in enumerate(keys)}
    pairs = [(first, second, name) for first, second in combinations(sums, 2) for name in names]
    one, other = (np.array([place[pair[side], pair[2]] for pair in pairs]) for side in (0, 1))
    value, spread = found[one] - found[other], drawn[:, one] - drawn[:, other]
    corrected = holm(p_values(value, spread.std(0, ddof=1), len(predictions)))
    return [
        Difference(*row) for row in zip(*zip(*pairs, strict=True), value.tolist(), limits(spread).tolist(), corrected.tolist(), strict=True)
    ]


def p_values(value: np.ndarray, error: np.ndarray, clusters: int) -> np.ndarray:
    """Two-sided probabilities of differences so large where there is none, [m].

    By Student's t of the bootstrap's standard error and not by counting draws, which cannot tell 1 in 2,000 from 1 in a million: too coarse
    to be corrected for many comparisons. No less than the signs of so many clusters could show, 2 ^ (1 - C): one cluster shows nothing.

    Args:
      value: differences, [m].
      error: their standard errors over the draws, [m].
      clusters: how many were drawn from.
    """
    freedom = max(clusters - 1, 1)
    error = error * np.sqrt(clusters / freedom)  # a draw of C from C spreads too little by this much
    far = np.abs(value) / np.maximum(error, TINY)
    return np.maximum(2 * stdtr(freedom, -far), 2.0 ** (1 - clusters))


def holm(p: np.ndarray) -> np.ndarray:
    """Probabilities corrected for their number, [m] (Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979).

    >>> holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist()
    [0.03, 0.06, 0.06, 0.02]
    """
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return corrected
