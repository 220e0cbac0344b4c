"""What the baselines count: events of chosen sessions, and what a user clicked so far.

Dimensions: P predictions and rows of a block, items.
"""

from collections.abc import Sequence

import numpy as np

from jaxrec.data.blocks import SessionBlock, runs
from jaxrec.data.dataset import Dataset

TIE = 1e-5  # relative difference of scores below which popularity decides: rare items often have exactly equal ones


def clicks_of(dataset: Dataset, sessions: Sequence[int], most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Items of the given sessions one after the other, and where each session begins: ([events] int32, [sessions + 1]).

    Args:
      most: events of a longer session of which only the last so many count; None: all.
    """
    sessions = np.asarray(sessions, np.int64)
    ends = dataset.offsets[sessions + 1]
    lengths = ends - dataset.offsets[sessions]
    lengths = lengths if most is None else np.minimum(lengths, most)
    offsets = np.append(0, np.cumsum(lengths))
    events = np.repeat(ends - offsets[1:], lengths)
    events += np.arange(len(events))  # in place: the events of a large log do not fit into memory many times
    return dataset.items[events], offsets


def events_of(dataset: Dataset, sessions: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(item of every event, position of its session in `sessions`), session after session, each [events] int32."""
    items, offsets = clicks_of(dataset, sessions)
    return items, np.repeat(np.arange(len(sessions), dtype=np.int32), np.diff(offsets))


def event_counts(dataset: Dataset, sessions: Sequence[int]) -> np.ndarray:
    """How often each item was clicked in the given sessions, [items] int64."""
    return np.bincount(clicks_of(dataset, sessions)[0], minlength=dataset.n_items)


def filling(counts: np.ndarray) -> np.ndarray:
    """Popularity as a number in [0, 1): added to whole counts it orders what they leave equal, and never overrules them.

    In float32 the order among items of one equal count becomes coarse when that count is in the thousands; the order between counts
    stays exact.

    >>> filling(np.array([3, 0, 1]))
    array([0.75, 0.  , 0.25])
    """
    return counts / (counts.max(initial=0) + 1)


def before_others(scores: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """Positive scores as they are, equal ones in the order of popularity; then all other items by popularity, [P, items] float32.

    Args:
      scores: of any size, [P, items] float32; 0 for others.
      fill: popularity in [0, 1), [items].
    """
    # Others are moved below zero, not scores up: similarities of a large log are too small to be added to 1 in float32.
    fill = fill.astype(np.float32)
    return np.where(scores > 0, scores * (1 + TIE * fill), fill - 1)


def clicks_so_far(block: SessionBlock) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The session's clicks that each prediction knows, first to last: (prediction, step, item) of each, [clicks] each."""
    row, step = block.predictions()
    prediction, place = runs(step + 1)
    return prediction, place, block.items[row[prediction], place]


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
