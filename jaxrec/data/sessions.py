"""From events to sessions in three periods: cutting by gaps, filtering, and the order of a dataset.

Everything is whole-array work: a log of 100 million events passes through without a Python loop over sessions.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute

from jaxrec.data.cuts import Cuts
from jaxrec.data.dataset import Dataset
from jaxrec.data.events import NANOSECONDS, Events

_NEVER = np.iinfo(np.int64).max


class SessionLog(NamedTuple):
    """Events in order of their sessions, and within a session in order of time.

    Attributes:
      items: item code of every event, [events] int32.
      times: nanoseconds since 1970 (UTC) of every event, [events] int64.
      session: session number of every event, never decreasing, [events].
      users: user code of every session, -1 without a user, [sessions] int32.
      held_out: whether a session comes from a test file, [sessions] bool.
      first_row: row in the log of the first event of every session, [sessions].
    """

    items: np.ndarray
    times: np.ndarray
    session: np.ndarray
    users: np.ndarray
    held_out: np.ndarray
    first_row: np.ndarray


def sessionise(events: Events, held_out: np.ndarray, gap_minutes: float) -> SessionLog:
    """Bring events into sessions: those of the log, or those of a user with no gap longer than `gap_minutes`.

    Events of the same time stay in the order of the file. A session number that the log uses for two users means two sessions.
    A session never reaches from a training file into a test file.

    Args:
      events: the log.
      held_out: whether a row comes from a test file, [rows] bool.
      gap_minutes: a new session starts when the gap is greater; unused where the log has sessions.
    """
    group = _group(events, held_out)
    order = _order(group, events.times)
    group, times = group[order], events.times[order]
    starts = np.diff(group, prepend=-1) != 0
    if events.sessions is None:
        starts |= np.diff(times, prepend=times[:1]) > round(gap_minutes * 60 * NANOSECONDS)
    first_row = order[starts]
    users = np.full(len(first_row), -1, np.int32) if events.users is None else events.users[first_row]
    session = np.cumsum(starts, dtype=np.int32) - np.int32(1)
    return SessionLog(events.items[order], times, session, users, held_out[first_row], first_row)


def _group(events: Events, held_out: np.ndarray) -> np.ndarray:
    """A number for every row that is shared only by events that may stand in one session, [rows] int64."""
    group = np.zeros(len(events), np.int64) if events.sessions is None else events.sessions.astype(np.int64)
    if events.users is not None:
        group = group * (len(events.user_names) + 1) + events.users + 1
    return group * 2 + held_out


def _order(group: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Rows by group, then time, then row, [rows]."""
    later = (group[1:] > group[:-1]) | ((group[1:] == group[:-1]) & (times[1:] >= times[:-1]))
    if later.all():  # most published logs come sorted
        return np.arange(len(group))
    return np.lexsort((times, group))


def session_starts(log: SessionLog, kept: np.ndarray) -> np.ndarray:
    """Nanoseconds of the first kept event of every session, [sessions] int64; the end of time where none is kept.

    `kept` holds positions of events in ascending order.
    """
    starts = np.full(len(log.users), _NEVER)
    first = np.diff(log.session[kept], prepend=-1) != 0
    starts[log.session[kept[first]]] = log.times[kept[first]]
    return starts


def periods(starts: np.ndarray, held_out: np.ndarray, cuts: Cuts) -> np.ndarray:
    """Period of every session by its start: 0 global, 1 personal, 2 test, [sessions] int8."""
    test_from = _NEVER if cuts.test_from is None else cuts.test_from * NANOSECONDS
    personal_from = test_from if cuts.personal_from is None else cuts.personal_from * NANOSECONDS
    period = (starts >= personal_from).astype(np.int8) + (starts >= test_from)
    return np.where(held_out, np.int8(2), period)


def filter_events(log: SessionLog, cuts: Cuts, min_length: int, min_support: int) -> tuple[np.ndarray, dict[str, int]]:
    """Drop short sessions and rare items.

    In the global period both rules are applied until neither drops anything more. Later periods keep what the global period knows, then
    lose their short sessions. A session whose first events are dropped starts with the first that remains; where that lies in a later
    period, so does the session.

    Returns:
      Positions of the events that remain, ascending, and how many were dropped by reason.
    """
    everything = np.arange(len(log.items))
    period = periods(session_starts(log, everything), log.held_out, cuts)
    in_global = period[log.session] == 0
    dropped = dict.fromkeys(("short_session", "rare_item", "unknown_item"), 0)
    kept, moved = _fixed_point(log, everything[in_global], cuts, min_length, min_support, dropped)
    known = np.bincount(log.items[kept], minlength=int(log.items.max(initial=-1)) + 1) > 0
    later = np.sort(np.concatenate([everything[~in_global], moved]))
    later = _keep(later, known[log.items[later]], "unknown_item", dropped)
    later = _drop_short(log, later, min_length, dropped)
    return np.sort(np.concatenate([kept, later])), dropped


def _fixed_point(
    log: SessionLog, kept: np.ndarray, cuts: Cuts, min_length: int, min_support: int, dropped: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(events of the global period that remain, events of sessions that now start in a later one), positions."""
    moved = [kept[:0]]
    while True:
        before = len(kept)
        kept = _drop_short(log, kept, min_length, dropped)
        support = np.bincount(log.items[kept], minlength=1)
        kept = _keep(kept, support[log.items[kept]] >= min_support, "rare_item", dropped)
        still = periods(session_starts(log, kept), log.held_out, cuts)[log.session[kept]] == 0
        moved.append(kept[~still])
        kept = kept[still]
        if len(kept) == before:
            return kept, np.concatenate(moved)


def _drop_short(log: SessionLog, kept: np.ndarray, min_length: int, dropped: dict[str, int]) -> np.ndarray:
    lengths = np.bincount(log.session[kept], minlength=1)
    return _keep(kept, lengths[log.session[kept]] >= min_length, "short_session", dropped)


def _keep(kept: np.ndarray, good: np.ndarray, reason: str, dropped: dict[str, int]) -> np.ndarray:
    dropped[reason] += len(kept) - int(np.count_nonzero(good))
    return kept[good]


def item_index(counts: np.ndarray, names: pa.Array) -> np.ndarray:
    """Item codes in the order of the index: by falling count, equal counts by text; items that never occur are left out.

    >>> item_index(np.array([1, 5, 0, 1]), pa.array(["b", "x", "c", "a"])).tolist()
    [1, 3, 0]
    """
    codes = np.flatnonzero(counts)
    by_text = codes[np.asarray(pa.compute.sort_indices(names.take(pa.array(codes))))] if len(codes) else codes
    return by_text[np.argsort(-counts[by_text], kind="stable")]


def arrange(
    log: SessionLog, kept: np.ndarray, cuts: Cuts, item_names: pa.Array, user_names: pa.Array
) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Put the kept events in the order of a dataset: sessions by period, start and row of the log.

    Returns:
      The dataset, the item code of every item index, and the user code of every user index (users in order of their text).
    """
    first = np.flatnonzero(np.diff(log.session[kept], prepend=-1))
    numbers = log.session[kept[first]]
    starts = log.times[kept[first]]
    period = periods(starts, log.held_out[numbers], cuts)
    order = np.lexsort((log.first_row[numbers], starts, period))
    lengths = np.diff(np.append(first, len(kept)))[order]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    events = kept[np.repeat(first[order] - offsets[:-1], lengths) + np.arange(len(kept))]
    period_offsets = tuple(int(n) for n in np.searchsorted(period[order], range(4)))
    in_global = log.items[events[: offsets[period_offsets[1]]]]
    counts = np.bincount(in_global, minlength=len(item_names))
    item_codes = item_index(counts, item_names)
    users, user_codes = _index_users(log.users[numbers[order]], user_names)
    items, times = _inverse(item_codes, len(item_names))[log.items[events]], log.times[events] // NANOSECONDS
    dataset = Dataset(items, times, offsets, users, period_offsets, counts[item_codes], len(user_codes))
    return dataset, item_codes, user_codes


def _index_users(codes: np.ndarray, names: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(user index of every session, user code of every index)."""
    present = np.unique(codes[codes >= 0])
    if not len(present):
        return codes, present
    present = present[np.asarray(pa.compute.sort_indices(names.take(pa.array(present))))]
    return np.append(_inverse(present, len(names)), np.int32(-1))[codes], present


def _inverse(codes: np.ndarray, size: int) -> np.ndarray:
    """Position of every code, [size] int32; -1 for a code that is not there."""
    positions = np.full(size, -1, np.int32)
    positions[codes] = np.arange(len(codes), dtype=np.int32)
    return positions
