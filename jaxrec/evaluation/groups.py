"""Parts of the predictions by their target, their place and their user: masks by name, for metrics of each part.

hot_targets, cold_targets      the fifth of the items that the global period clicked most (of equal counts the lower index), the rest
position_1 ... position_10+    events of the session that were read before the target
old_users, new_users           with and without events in the periods before the test
own_events_0 ... _200+         how many such events; these and the line above only where users are known

Dimensions: P predictions.
"""

from collections.abc import Sequence

import numpy as np

from jaxrec.data.dataset import Dataset
from jaxrec.evaluation.metrics import metrics
from jaxrec.evaluation.ranks import Ranks

HOT = 0.2
"""Share of the catalogue that is hot."""
# Lowest number of each bin; a bin ends before the next begins.
POSITIONS = (1, 2, 3, 5, 10)
OWN_EVENTS = (0, 1, 5, 10, 20, 50, 100, 200)


def by_group(dataset: Dataset, ranks: Ranks, ties: str = "standard") -> dict[str, dict[str, float]]:
    """Metrics of each group that has a prediction, by name; `ranks` are of sessions of the test period."""
    return {name: metrics(ranks.where(mask), ties) for name, mask in groups(dataset, ranks).items() if mask.any()}


def groups(dataset: Dataset, ranks: Ranks) -> dict[str, np.ndarray]:
    """Which predictions belong to each group, {name: [P] bool}."""
    targets = dataset.items[dataset.offsets[ranks.sessions] + ranks.steps + 1]
    hot = hot_items(dataset.item_counts)[targets]
    found = {"hot_targets": hot, "cold_targets": ~hot} | _bins("position", POSITIONS, ranks.steps + 1)
    if not dataset.n_users:
        return found
    known = ranks.users >= 0
    own = np.where(known, own_events(dataset)[ranks.users], -1)
    return found | {"old_users": own > 0, "new_users": own == 0} | _bins("own_events", OWN_EVENTS, own)


def hot_items(counts: np.ndarray) -> np.ndarray:
    """Whether each item is hot, [items] bool.

    Args:
      counts: clicks of each item in the global period, [items].

    >>> hot_items(np.array([1, 7, 0, 7, 2, 0])).tolist()
    [False, True, False, True, False, False]
    """
    hot = np.zeros(len(counts), bool)
    hot[np.argsort(-counts, kind="stable")[: int(np.ceil(HOT * len(counts)))]] = True
    return hot


def own_events(dataset: Dataset) -> np.ndarray:
    """Events of each user in the periods before the test, [users] int64."""
    early = dataset.users[: dataset.period("test").start]
    lengths = np.diff(dataset.offsets[: len(early) + 1])
    return np.bincount(early[early >= 0], lengths[early >= 0], dataset.n_users).astype(np.int64)


def bin_label(lows: Sequence[int], number: int) -> str:
    """How a bin is called that begins at lows[number].

    >>> [bin_label(OWN_EVENTS, number) for number in (0, 1, 7)]
    ['0', '1-4', '200+']
    """
    low = lows[number]
    if number + 1 == len(lows):
        return f"{low}+"
    high = lows[number + 1] - 1
    return str(low) if high == low else f"{low}-{high}"


def _bins(name: str, lows: Sequence[int], values: np.ndarray) -> dict[str, np.ndarray]:
    place = np.digitize(values, lows) - 1
    return {f"{name}_{bin_label(lows, number)}": place == number for number in range(len(lows))}
