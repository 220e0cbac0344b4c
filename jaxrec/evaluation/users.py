"""Two models side by side, user by user.

Dimensions: U users with at least one prediction.
"""

from collections.abc import Sequence

import numpy as np

from jaxrec.evaluation.intervals import intervals
from jaxrec.evaluation.metrics import sums_by
from jaxrec.evaluation.ranks import Ranks


def by_user(ranks: Ranks, users: np.ndarray, ties: str = "standard") -> dict[str, np.ndarray]:
    """Sums of every metric and of predictions for each of `users` (sorted indices), {metric: [U]}."""
    return sums_by(np.searchsorted(users, ranks.users), len(users), ranks, ties)


def better_same_worse(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """Shares of users whose own metric rose, stayed, fell; without users all count as same.

    >>> better_same_worse(np.array([0.0, 1.0, 2.0, 2.0]), np.array([1.0, 1.0, 2.0, 1.0]))
    (0.25, 0.5, 0.25)
    """
    if not len(before):
        return 0.0, 1.0, 0.0
    change = after - before
    return tuple(float(np.mean(part)) for part in (change > 0, change == 0, change < 0))


def gains(before: dict, after: dict, names: Sequence[str] = ("recall@20", "mrr@20")) -> dict[str, list[float]]:
    """95 % interval of the gain of each named metric, from what `by_user` gave for two models."""
    found = intervals(np.stack([after[name] - before[name] for name in names], -1), before["predictions"])
    return dict(zip(names, found.tolist(), strict=True))
