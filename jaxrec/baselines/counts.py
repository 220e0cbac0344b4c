"""What the baselines count: events of chosen sessions, and what a user clicked so far.

Dimensions: P predictions and rows of a block, items.
"""

from collections.abc import Sequence

import numpy as np

from jaxrec.data.blocks import SessionBlock
from jaxrec.data.dataset import Dataset


def events_of(dataset: Dataset, sessions: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(item of every event, position of its session in `sessions`), session after session, each [events]."""
    sessions = np.asarray(sessions, np.int64)
    lengths = dataset.offsets[sessions + 1] - dataset.offsets[sessions]
    first = np.cumsum(lengths) - lengths
    events = np.arange(lengths.sum()) + np.repeat(dataset.offsets[sessions] - first, lengths)
    return dataset.items[events], np.repeat(np.arange(len(sessions)), lengths)


def event_counts(dataset: Dataset, sessions: Sequence[int]) -> np.ndarray:
    """How often each item was clicked in the given sessions, [items] int64."""
    return np.bincount(events_of(dataset, sessions)[0], minlength=dataset.n_items)


def filling(counts: np.ndarray) -> np.ndarray:
    """Popularity as a number in [0, 1): added to whole counts it orders what they leave equal, and never overrules them.

    In float32 the order among items of one equal count becomes coarse when that count is in the thousands; the order between counts
    stays exact.

    >>> filling(np.array([3, 0, 1]))
    array([0.75, 0.  , 0.25])
    """
    return counts / (counts.max(initial=0) + 1)


def session_counts(block: SessionBlock, start: int, stop: int) -> np.ndarray:
    """How often items start:stop were clicked in the session by the time of each prediction, [P, stop - start] float32."""
    read = block.items[:, :-1]
    counts = np.zeros((*read.shape, stop - start), np.float32)
    row, step = np.nonzero((read >= start) & (read < stop))
    counts[row, step, read[row, step] - start] = 1
    return np.cumsum(counts, axis=1, out=counts)[block.predictions()]


def history_counts(block: SessionBlock, start: int, stop: int) -> np.ndarray:
    """How often the user clicked items start:stop before the session, [rows, stop - start] float32."""
    counts = np.zeros((len(block.items), stop - start), np.float32)
    row, place = np.nonzero((block.history_items >= start) & (block.history_items < stop))
    counts[row, block.history_items[row, place] - start] = block.history_counts[row, place]
    return counts


def own_counts(block: SessionBlock, start: int, stop: int) -> np.ndarray:
    """How often the user clicked items start:stop before the session and in it so far, [P, stop - start] float32."""
    return history_counts(block, start, stop)[block.predictions()[0]] + session_counts(block, start, stop)
