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
    periods = tuple(np.searchsorted(sessions, dataset.period_offsets).tolist())
    lengths = np.bincount(number, minlength=len(sessions))
    return dataclasses.replace(_with(dataset, events, lengths, dataset.users[sessions]), period_offsets=periods, folder=None)


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
    periods = (0, early, early, int(whole.sum()))
    return dataclasses.replace(_with(part, kept, lengths[whole], part.users[whole]), period_offsets=periods, item_counts=counts)


def _with(dataset: Dataset, events: np.ndarray, lengths: np.ndarray, users: np.ndarray) -> Dataset:
    """The same with some of the events alone, in sessions of these lengths of these users."""
    return dataclasses.replace(
        dataset,
        items=dataset.items[events],
        times=dataset.times[events],
        offsets=np.append(0, np.cumsum(lengths)),
        users=users,
        behaviors=None if dataset.behaviors is None else dataset.behaviors[events],
    )
