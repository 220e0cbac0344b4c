"""Intervals by a bootstrap over clusters: what is drawn is a user with all predictions, or a session where nobody is known.

Predictions of one user are alike, so drawing them one by one would make intervals too narrow (Davison and Hinkley, "Bootstrap Methods and
their Application", 1997, section 3.8). The draws depend on the seed and the number of clusters alone: models that are resampled one by one
are still paired.

Dimensions: P predictions, C clusters, M metrics, D draws.
"""

import numpy as np

from jaxrec.evaluation.metrics import sums_by
from jaxrec.evaluation.ranks import Ranks

DRAWS = 2000
LIMITS = (0.025, 0.975)
MOST_CLUSTERS = 2**16
"""More clusters than these are put together by their numbers, as many in each: intervals stay as wide, and any log takes seconds."""
COUNTS_AT_ONCE = 2**22
"""Counts of drawn clusters in memory at a time, draws x clusters."""


def clusters(ranks: Ranks) -> np.ndarray:
    """Number from 0 of the cluster of each prediction, [P]: its user's, or its session's where it has no user."""
    return np.unique(np.where(ranks.users < 0, ranks.sessions, -1 - ranks.users.astype(np.int64)), return_inverse=True)[1]


def cluster_sums(ranks: Ranks, ties: str = "standard") -> dict[str, np.ndarray]:
    """Sums of every metric and of predictions by cluster, {metric: [C]}."""
    cluster = clusters(ranks)
    return sums_by(cluster, int(cluster.max(initial=-1)) + 1, ranks, ties)


def resampled(sums: np.ndarray, predictions: np.ndarray, seed: int = 0, draws: int = DRAWS) -> np.ndarray:
    """Metrics over all predictions of as many clusters, drawn with replacement, [D, M].

    Args:
      sums: of each metric over each cluster's predictions, [C, M]; or the difference of two models' sums.
      predictions: of each cluster, [C]; C is at least 1.
    """
    n = min(len(predictions), MOST_CLUSTERS)
    part = np.arange(len(predictions)) % n
    columns = np.stack([np.bincount(part, column) for column in (*sums.T, predictions)], -1)
    generator, rows, totals = np.random.default_rng(seed), max(1, COUNTS_AT_ONCE // n), []
    for start in range(0, draws, rows):
        drawn = [np.bincount(generator.integers(0, n, n), minlength=n) for _ in range(min(rows, draws - start))]
        totals.append(np.asarray(drawn, np.float64) @ columns)
    total = np.concatenate(totals)
    return total[:, :-1] / total[:, -1:]


def limits(drawn: np.ndarray) -> np.ndarray:
    """95 % interval (percentiles) of each of the resampled metrics [D, M], [M, 2]."""
    return np.quantile(drawn, LIMITS, axis=0).T


def intervals(sums: np.ndarray, predictions: np.ndarray, seed: int = 0, draws: int = DRAWS) -> np.ndarray:
    """95 % interval of each metric, [M, 2]; arguments as in `resampled`; zeros without clusters."""
    return limits(resampled(sums, predictions, seed, draws)) if len(predictions) else np.zeros((sums.shape[1], 2))


def ci95(totals: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """95 % interval of every metric, from what `cluster_sums` gave."""
    names = [name for name in totals if name != "predictions"]
    found = intervals(np.stack([totals[name] for name in names], -1), totals["predictions"])
    return dict(zip(names, found.tolist(), strict=True))
