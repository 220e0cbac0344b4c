"""The dataset: sessions of item indices in three periods of time, as flat arrays that are memory-mapped from disk.

Sessions are ordered by period, then by the time of their first event, then by their order in the log, so that each period is one
contiguous range of sessions.
"""

import dataclasses
from collections.abc import Collection
from pathlib import Path

import numpy as np

from jaxrec.errors import InputError

PERIODS = ("global", "personal", "test")


def iso(seconds: int | None) -> str:
    """An instant as text.

    >>> iso(1512057600), iso(None)
    ('2017-11-30T16:00:00Z', 'none')
    """
    if seconds is None:
        return "none"
    return str(np.datetime64(int(seconds), "s")) + "Z"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Sessions of three periods.

    Attributes:
      items: item index of every event, [events] int32.
      times: seconds since 1970 (UTC) of every event, [events] int64.
      offsets: session s holds events offsets[s]:offsets[s + 1], [sessions + 1] int64.
      users: user index of every session, [sessions] int32; -1 without a user.
      period_offsets: period p holds sessions period_offsets[p]:period_offsets[p + 1], [4].
      item_counts: events of every item in the global period, [items] int64.
      n_users: number of users; 0 in a log without users.
      behaviors: code of every event's behaviour, [events] int16, named by `manifest["behaviors"]`; None in a log without behaviours.
      manifest: the account of how the dataset came to be (see `jaxrec.data.prepare`).
      folder: where it lies; None for a dataset that was never written.
    """

    items: np.ndarray
    times: np.ndarray
    offsets: np.ndarray
    users: np.ndarray
    period_offsets: tuple[int, int, int, int]
    item_counts: np.ndarray
    n_users: int
    behaviors: np.ndarray | None = None
    manifest: dict = dataclasses.field(default_factory=dict)
    folder: Path | None = None

    @property
    def n_items(self) -> int:
        return len(self.item_counts)

    @property
    def n_sessions(self) -> int:
        return len(self.users)

    def period(self, name: str) -> range:
        """Session numbers of the period "global", "personal" or "test"."""
        p = PERIODS.index(name)
        return range(self.period_offsets[p], self.period_offsets[p + 1])

    def session(self, number: int) -> np.ndarray:
        """Item indices of one session, [events of the session]."""
        return self.items[self.offsets[number] : self.offsets[number + 1]]

    def counts_before(self, number: int) -> np.ndarray:
        """Events of every item in the sessions before a session, [items] int64."""
        return np.bincount(self.items[: self.offsets[number]], minlength=self.n_items)

    def of_behaviors(self, names: Collection[str], option: str = "train_behaviors") -> np.ndarray:
        """Which events have one of the named behaviours, [events] bool.

        Args:
          option: what named them, for the error.

        Raises:
          InputError: the log has no such behaviour.
        """
        known = list(self.manifest.get("behaviors", {}))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError(
                f"--{option}: expected behaviours of the dataset ({', '.join(known) or 'it has none'}); got {', '.join(unknown)}"
            )
        return np.isin(self.behaviors, [known.index(name) for name in names])
