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
