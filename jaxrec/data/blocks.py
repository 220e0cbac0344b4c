"""Blocks: padded groups of sessions, the one shape in which events reach a model.

Dimensions: rows (lanes, or sessions of a user), T steps of a block, K distinct items of a user's history.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxrec.data.dataset import Dataset

HISTORIES_AT_ONCE = 64
"""Sessions whose histories are counted in one piece: enough to be fast, few enough that long histories fit into memory."""

SHAPES = 4
"""Numbers of predictions, in parts of the block's steps, that blocks of one size may have."""


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
      history_decayed, history_ago: as in `Past`, [rows, K] float32; 0 where padded.
    """

    items: np.ndarray
    mask: np.ndarray
    sessions: np.ndarray
    users: np.ndarray
    history_items: np.ndarray
    history_counts: np.ndarray
    history_decayed: np.ndarray
    history_ago: np.ndarray

    def predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """(row, step) of every prediction, in this order, [P] each.

        Place (0, 0) is repeated behind them up to the next quarter of the block's steps, so that many blocks share few shapes.
        """
        row, step = np.nonzero(self.mask)
        missing = -len(row) % -(-self.mask.size // SHAPES)
        return np.pad(row, (0, missing)), np.pad(step, (0, missing))


def round_up(value: int) -> int:
    """The next power of two, so that many lengths share few shapes.

    >>> [round_up(n) for n in (0, 1, 2, 3, 9)]
    [1, 1, 2, 4, 16]
    """
    return 1 << max(int(value) - 1, 0).bit_length()


def runs(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(number of its run, place in it) of every element, where runs of these lengths stand one after another.

    >>> [part.tolist() for part in runs(np.array([2, 0, 3]))]
    [[0, 0, 2, 2, 2], [0, 1, 0, 1, 2]]
    """
    number = np.repeat(np.arange(len(lengths)), lengths)
    return number, np.arange(len(number)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


class Past(NamedTuple):
    """What was clicked before a session, one entry per row and distinct item, in this order, [E] each.

    Time is told in the user's own sessions and clicks: it means the same in a log of seconds and in one of days.

    Attributes:
      row, items: whose past it is, and the item.
      counts: clicks on the item.
      decayed: the same, a click that lies n sessions back counting 1 / (1 + n).
      ago: clicks on other items since the last one on it.
    """

    row: np.ndarray
    items: np.ndarray
    counts: np.ndarray
    decayed: np.ndarray
    ago: np.ndarray


def summarise(row: np.ndarray, items: np.ndarray, sessions_ago: np.ndarray) -> Past:
    """The past that clicks amount to.

    Args:
      row, items, sessions_ago: of every click, row by row and in order of time, [clicks] each; the session before the one at hand is 1 ago.
    """
    width = int(items.max(initial=0)) + 1
    found, where, counts = np.unique(row * width + items, return_inverse=True, return_counts=True)
    decayed = np.bincount(where, 1 / (1 + sessions_ago), len(found))
    last = np.zeros(len(found), np.int64)
    last[where] = np.arange(len(row))  # of several clicks on one item the latest stays
    row, items = np.divmod(found, width)
    after = np.cumsum(np.bincount(row, counts))[row] - 1 if len(row) else counts
    return Past(row, items, counts.astype(np.float32), decayed.astype(np.float32), (after - last).astype(np.float32))


class Histories:
    """Every user's own events in order of time, for the items that a user clicked before a given session.

    A dataset orders sessions by period and start, so a user's earlier sessions are those with a smaller number.
    They may go on after a later one has started; such clicks are not known yet.
    """

    def __init__(self, dataset: Dataset):
        self._dataset = dataset
        by_user = np.argsort(dataset.users, kind="stable")
        self._sessions = by_user
        self._place = np.empty_like(by_user)
        self._place[by_user] = np.arange(len(by_user))
        self._first = np.searchsorted(dataset.users[by_user], np.arange(dataset.n_users + 1))

    def sessions_of(self, user: int, before: int) -> np.ndarray:
        """Session numbers of `user` that are smaller than `before`, in order."""
        own = self._sessions[self._first[user] : self._first[user + 1]]
        return own[: np.searchsorted(own, before)]

    def sessions_of_each(self, users: np.ndarray, first: int, before: int) -> tuple[np.ndarray, np.ndarray]:
        """Session numbers in first:before of each of `users` [U], all of one user after all of another, in order; and how many, [U]."""
        begin = self._first[users]
        row, place = runs(self._first[users + 1] - begin)
        sessions = self._sessions[begin[row] + place]
        asked = (sessions >= first) & (sessions < before)
        return sessions[asked], np.bincount(row[asked], minlength=len(users))

    def held(self, users: np.ndarray, before: int) -> tuple[np.ndarray, np.ndarray]:
        """(row, item) of each distinct item that users[row] clicked in sessions numbered less than `before`, ascending, [E] each."""
        dataset = self._dataset
        sessions, many = self.sessions_of_each(users, 0, before)
        number, place = runs(dataset.offsets[sessions + 1] - dataset.offsets[sessions])
        row = np.repeat(np.arange(len(users)), many)[number]
        return np.divmod(np.unique(row * dataset.n_items + dataset.items[dataset.offsets[sessions][number] + place]), dataset.n_items)

    def before_each(self, sessions: np.ndarray) -> Past:
        """What the user of sessions[row] clicked before that session started."""
        firsts = range(0, len(sessions), HISTORIES_AT_ONCE)
        parts = [self._summarise(sessions[first : first + HISTORIES_AT_ONCE]) for first in firsts]
        parts = [part._replace(row=part.row + first) for first, part in zip(firsts, parts, strict=True)]
        return Past(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _summarise(self, sessions: np.ndarray) -> Past:
        offsets, items, times = self._dataset.offsets, self._dataset.items, self._dataset.times
        users, place = self._dataset.users[sessions], self._place[sessions]
        begin = np.where(users < 0, place, self._first[users])
        row, before = runs(place - begin)
        earlier = self._sessions[begin[row] + before]
        number, step = runs(offsets[earlier + 1] - offsets[earlier])
        event, row, ago = offsets[earlier][number] + step, row[number], ((place - begin)[row] - before)[number]
        known = times[event] <= times[offsets[sessions]][row]
        return summarise(row[known], items[event[known]], ago[known])


def session_blocks(
    dataset: Dataset, sessions: Sequence[int], predictions: int = 2048, histories: Histories | bool = True
) -> Iterator[SessionBlock]:
    """Pad sessions of similar length into blocks of about `predictions` steps; every session is in exactly one block.

    Lengths and histories are rounded up to powers of two: few shapes, few compilations. Within one width sessions are sorted by length:
    most blocks then have as many predictions as the block before.

    Args:
      histories: what users clicked before, where it is at hand already; False leaves every history empty, for models that do not read it.
    """
    sessions = np.asarray(sessions, np.int64)
    steps = dataset.offsets[sessions + 1] - dataset.offsets[sessions] - 1
    order = np.argsort(steps, kind="stable")
    sessions, steps = sessions[order], steps[order]
    widths = np.array([round_up(n) for n in range(steps.max(initial=0) + 1)])[steps]
    histories = Histories(dataset) if histories is True else histories or None
    for width in np.unique(widths):
        of_width = sessions[widths == width]
        rows = max(1, predictions // int(width))
        for start in range(0, len(of_width), rows):
            yield _session_block(dataset, histories, of_width[start : start + rows], rows, int(width))


def _session_block(dataset: Dataset, histories: Histories | None, sessions: np.ndarray, rows: int, width: int) -> SessionBlock:
    past = Past(*(np.zeros(0, np.int64),) * 5) if histories is None else histories.before_each(sessions)
    held = np.bincount(past.row, minlength=len(sessions))
    distinct = round_up(held.max())
    block = SessionBlock(
        items=np.zeros((rows, width + 1), np.int32),
        mask=np.zeros((rows, width), bool),
        sessions=np.full(rows, -1, np.int64),
        users=np.full(rows, -1, np.int32),
        history_items=np.full((rows, distinct), -1, np.int32),
        history_counts=np.zeros((rows, distinct), np.float32),
        history_decayed=np.zeros((rows, distinct), np.float32),
        history_ago=np.zeros((rows, distinct), np.float32),
    )
    place = runs(held)[1]
    block.history_items[past.row, place] = past.items
    block.history_counts[past.row, place] = past.counts
    block.history_decayed[past.row, place] = past.decayed
    block.history_ago[past.row, place] = past.ago
    first, lengths = dataset.offsets[sessions], dataset.offsets[sessions + 1] - dataset.offsets[sessions]
    row, place = runs(lengths)
    block.items[row, place] = dataset.items[first[row] + place]
    block.mask[: len(sessions)] = np.arange(width) < lengths[:, np.newaxis] - 1
    block.sessions[: len(sessions)] = sessions
    block.users[: len(sessions)] = dataset.users[sessions]
    return block
