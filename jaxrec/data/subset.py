"""A part of a dataset that is a dataset itself."""

import dataclasses

import numpy as np

from jaxrec.data.blocks import runs
from jaxrec.data.dataset import Dataset


def only(dataset: Dataset, sessions: np.ndarray) -> Dataset:
    """The given sessions alone, numbered anew from 0; users, items and periods stay what they are.

    Args:
      sessions: session numbers, growing.
    """
    first = dataset.offsets[sessions]
    number, place = runs(dataset.offsets[sessions + 1] - first)
    events = first[number] + place
    return dataclasses.replace(
        dataset,
        items=dataset.items[events],
        times=dataset.times[events],
        offsets=np.searchsorted(number, np.arange(len(sessions) + 1)),
        users=dataset.users[sessions],
        period_offsets=tuple(np.searchsorted(sessions, dataset.period_offsets).tolist()),
        behaviors=None if dataset.behaviors is None else dataset.behaviors[events],
        folder=None,
    )


def rehearsal(dataset: Dataset, start: int, sessions: np.ndarray) -> Dataset:
    """Some sessions of the global period as a dataset whose test period begins with session number `start`.

    Validation is to see what a test will: events on items that nobody clicked before are left out, as those on unknown items are when a log
    is prepared, and so are sessions of the test period that are left with fewer than two events. `item_counts` are those before `start`.

    Args:
      sessions: session numbers, growing.
    """
    counts, part, early = dataset.counts_before(start), only(dataset, sessions), int(np.searchsorted(sessions, start))
    number = np.repeat(np.arange(len(sessions)), np.diff(part.offsets))
    known = (number < early) | (counts[part.items] > 0)
    lengths = np.bincount(number[known], minlength=len(sessions))
    whole = (lengths > 1) | (np.arange(len(sessions)) < early)
    kept = known & whole[number]
    return dataclasses.replace(
        part,
        items=part.items[kept],
        times=part.times[kept],
        offsets=np.append(0, np.cumsum(lengths[whole])),
        users=part.users[whole],
        period_offsets=(0, early, early, int(whole.sum())),
        item_counts=counts,
        behaviors=None if part.behaviors is None else part.behaviors[kept],
    )
