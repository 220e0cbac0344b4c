"""Two models side by side, user by user.

Dimensions: U users with at least one prediction.
"""

from collections.abc import Sequence

import numpy as np

from jaxrec.evaluation.metrics import per_prediction
from jaxrec.evaluation.ranks import Ranks


def by_user(ranks: Ranks, users: np.ndarray, ties: str = "standard") -> dict[str, np.ndarray]:
    """Sums of every metric and of predictions for each of `users` (sorted indices), {metric: [U]}."""
    place = np.searchsorted(users, ranks.users)
    total = {name: np.bincount(place, value, len(users)) for name, value in per_prediction(ranks.values(ties)).items()}
    return total | {"predictions": np.bincount(place, minlength=len(users)).astype(np.float64)}


def better_same_worse(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """Shares of users whose own metric rose, stayed, fell; without users all count as same.

    >>> better_same_worse(np.array([0.0, 1.0, 2.0, 2.0]), np.array([1.0, 1.0, 2.0, 1.0]))
    (0.25, 0.5, 0.25)
    """
    if not len(before):
        return 0.0, 1.0, 0.0
    change = after - before
    return tuple(float(np.mean(part)) for part in (change > 0, change == 0, change < 0))


def bootstrap_gain(before: np.ndarray, after: np.ndarray, predictions: np.ndarray, seed: int = 0, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the difference of two metrics, resampling users with all their predictions.

    Args:
      before, after: sums of the metric per user, [U].
      predictions: predictions per user, [U].
    """
    if not len(before):
        return 0.0, 0.0
    generator = np.random.default_rng(seed)
    gain, users = after - before, len(before)
    found = np.empty(draws)
    for i in range(draws):
        drawn = np.bincount(generator.integers(0, users, users), minlength=users)
        found[i] = (drawn @ gain) / (drawn @ predictions)
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def gains(before: dict, after: dict, names: Sequence[str] = ("recall@20", "mrr@20")) -> dict[str, list[float]]:
    """Interval of the gain of each named metric, from what `by_user` gave for two models."""
    return {name: list(bootstrap_gain(before[name], after[name], before["predictions"])) for name in names}
