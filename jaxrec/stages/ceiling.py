"""Recall of candidates: the share of test targets that stand in their user's list, which no ranking of the list can exceed.

Dimensions: S sources, U users of a chunk, N candidates of a list, P predictions of the test period.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxrec.data.blocks import Histories, session_blocks
from jaxrec.data.dataset import Dataset
from jaxrec.evaluation.groups import own_events
from jaxrec.evaluation.ranks import predictions_at_once
from jaxrec.evaluation.within import Targets, place_in, targets_of

UNION, POPULARITY, OWN, WITH_OWN = "union", "popularity", "own", "union_and_own"
"""The lists; the most popular items; what the user clicked before the target; lists and that."""


class Ceiling:
    """Where test targets stand in the lists, collected while lists pass by, users in chunks and in order."""

    def __init__(self, dataset: Dataset, popularity: np.ndarray, sources: Sequence[str], size: int):
        """`popularity` is the place of every item among all by popularity, [items]; `size` is N."""
        self._dataset, self._histories, self._before = dataset, Histories(dataset), dataset.period("test").start
        self._targets = _by_user(dataset)
        # A place of N or more is a miss.
        self._places = {name: np.full(len(self._targets.users), size) for name in (UNION, *sources)}
        self._popular = popularity[self._targets.items]
        self._beyond = np.zeros(size + 1, np.int64)

    def add(self, users: range, lists: np.ndarray, proposals: Iterable[np.ndarray]) -> None:
        """Look targets up in the lists of some users, [U, N], and in what each source proposed to them, [S, U, N]."""
        first, stop = np.searchsorted(self._targets.users, [users.start, users.stop])
        rows, items = self._targets.users[first:stop] - users.start, self._targets.items[first:stop]
        for places, own in zip(self._places.values(), (lists, *proposals), strict=True):
            places[first:stop] = place_in(own, rows, items)
        self._beyond += np.bincount(place_in(lists, *self._histories.held(np.asarray(users), self._before)), minlength=len(self._beyond))

    def measured(self, sizes: Sequence[int]) -> dict[str, Any]:
        """recall {number of candidates: {group of users: {list: share}}}, predictions {group: number}, and own_beyond {number: items}.

        own_beyond: a user's own items before the test that are not among so many candidates, on average: rows that the device needs too.
        """
        groups, users = _groups(self._dataset, self._targets), max(self._dataset.n_users, 1)
        return {
            "predictions": {name: int(mask.sum()) for name, mask in groups.items()},
            "recall": {str(n): {name: self._shares(n, mask) for name, mask in groups.items()} for n in sizes},
            "own_beyond": {str(n): int(self._beyond[n:].sum()) / users for n in sizes},
        }

    def _shares(self, n: int, mask: np.ndarray) -> dict[str, float]:
        own = self._targets.own[mask]
        found = {name: places[mask] < n for name, places in self._places.items()}
        found |= {POPULARITY: self._popular[mask] < n, OWN: own, WITH_OWN: own | found[UNION]}
        return {name: float(one.mean()) if len(one) else 0.0 for name, one in found.items()}


def _by_user(dataset: Dataset) -> Targets:
    """Targets of the test sessions that have a user, user by user."""
    found = targets_of(session_blocks(dataset, dataset.period("test"), predictions_at_once(dataset.n_items)))
    known = np.flatnonzero(found.users >= 0)
    order = known[np.argsort(found.users[known], kind="stable")]
    return Targets(*(column[order] for column in found))


def _groups(dataset: Dataset, targets: Targets) -> dict[str, np.ndarray]:
    """All predictions, those of users with events before the test, and of users without."""
    old = own_events(dataset)[targets.users] > 0
    return {"all": np.ones(len(old), bool), "old": old, "new": ~old}
