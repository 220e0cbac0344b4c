"""Blocks: padded groups of sessions, the one shape in which events reach a model.

Dimensions: rows (lanes, or sessions of a user), T steps of a block, K distinct items of a user's history.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxrec.data.dataset import Dataset


class Block(NamedTuple):
    """What one update learns from.

    Attributes:
      items: [rows, T + 1] int32; step t reads items[:, t] and predicts items[:, t + 1].
      mask: [rows, T] bool; False where there is no event to predict; whatever follows in the row then belongs to another session.
      reset: [rows, T] bool; True where a session starts, so the state before step t is zero.
    """

    items: np.ndarray
    mask: np.ndarray
    reset: np.ndarray


class SessionBlock(NamedTuple):
    """Whole sessions to be scored, with what their user clicked before.

    Attributes:
      items: [rows, T + 1] int32, zero where padded.
      mask: [rows, T] bool; True where items[:, t + 1] is an event to predict.
      sessions: session number of each row, [rows]; -1 in a padding row.
      users: user index of each row, [rows]; -1 without users and in padding rows.
      history_items: distinct items that the user clicked before the session started, in any period, [rows, K] int32; -1 where padded.
      history_counts: how often, [rows, K] float32; 0 where padded.
    """

    items: np.ndarray
    mask: np.ndarray
    sessions: np.ndarray
    users: np.ndarray
    history_items: np.ndarray
    history_counts: np.ndarray


def round_up(value: int) -> int:
    """The next power of two, so that many lengths share few shapes.

    >>> [round_up(n) for n in (0, 1, 2, 3, 9)]
    [1, 1, 2, 4, 16]
    """
    return 1 << max(int(value) - 1, 0).bit_length()


class Histories:
    """Every user's own events in order of time, for the items that a user clicked before a given session.

    A dataset orders sessions by period and start, so a user's earlier sessions are those with a smaller number.
    They may go on after a later one has started; such clicks are not known yet.
    """

    def __init__(self, dataset: Dataset):
        self._dataset = dataset
        by_user = np.argsort(dataset.users, kind="stable")
        self._sessions = by_user
        self._first = np.searchsorted(dataset.users[by_user], np.arange(dataset.n_users + 1))

    def sessions_of(self, user: int, before: int) -> np.ndarray:
        """Session numbers of `user` that are smaller than `before`, in order."""
        own = self._sessions[self._first[user] : self._first[user + 1]]
        return own[: np.searchsorted(own, before)]

    def counts_before(self, session: int) -> tuple[np.ndarray, np.ndarray]:
        """(distinct items, counts) of what the session's user clicked before it started."""
        user = int(self._dataset.users[session])
        if user < 0:
            return np.zeros(0, np.int32), np.zeros(0, np.int64)
        offsets, items, times = self._dataset.offsets, self._dataset.items, self._dataset.times
        start = times[offsets[session]]
        spans = [slice(offsets[s], offsets[s + 1]) for s in self.sessions_of(user, session)]
        known = [items[span][times[span] <= start] for span in spans]
        return np.unique(np.concatenate([np.zeros(0, np.int32), *known]), return_counts=True)


def session_blocks(dataset: Dataset, sessions: Sequence[int], predictions: int = 2048) -> Iterator[SessionBlock]:
    """Pad sessions of similar length into blocks of about `predictions` steps; every session is in exactly one block.

    Lengths and histories are rounded up to powers of two: few shapes, few compilations.
    """
    sessions = np.asarray(sessions, np.int64)
    steps = np.diff(dataset.offsets)[sessions] - 1
    widths = np.array([round_up(n) for n in steps], np.int64)
    histories = Histories(dataset)
    for width in np.unique(widths):
        of_width = sessions[widths == width]
        rows = max(1, predictions // int(width))
        for start in range(0, len(of_width), rows):
            yield _session_block(dataset, histories, of_width[start : start + rows], rows, int(width))


def _session_block(dataset: Dataset, histories: Histories, sessions: np.ndarray, rows: int, width: int) -> SessionBlock:
    counts = [histories.counts_before(int(s)) for s in sessions]
    distinct = round_up(max(len(items) for items, _ in counts))
    block = SessionBlock(
        items=np.zeros((rows, width + 1), np.int32),
        mask=np.zeros((rows, width), bool),
        sessions=np.full(rows, -1, np.int64),
        users=np.full(rows, -1, np.int32),
        history_items=np.full((rows, distinct), -1, np.int32),
        history_counts=np.zeros((rows, distinct), np.float32),
    )
    for row, (session, (items, count)) in enumerate(zip(sessions, counts, strict=True)):
        events = dataset.session(session)
        block.items[row, : len(events)] = events
        block.mask[row, : len(events) - 1] = True
        block.history_items[row, : len(items)] = items
        block.history_counts[row, : len(items)] = count
    block.sessions[: len(sessions)] = sessions
    block.users[: len(sessions)] = dataset.users[sessions]
    return block
