"""Sessions: the rows of a part in order, cut into sessions.

Everything is whole-array work, and parts are worked on side by side.
"""

from typing import NamedTuple

import numpy as np

from jaxrec.data.reading.time_units import NANOSECONDS


class Sessions(NamedTuple):
    """Events in order of their sessions and, within a session, of time; one column each, and one line per session.

    Attributes:
      items: item code of every event, [events] int32.
      times: nanoseconds since 1970 (UTC) of every event, [events] int64.
      behaviors: behaviour code of every event, [events] int16.
      lengths: events of every session, at least 1, [sessions] int32.
      users: user code of every session, -1 without a user, [sessions] int32.
      held_out: whether a session comes from a test file, [sessions] bool.
      first_row: place in the log of the first event of every session, [sessions] int64.
      duplicates: rows that repeat an earlier one in everything: session or user, item, time and behaviour.
      dropped: rows left out, by reason.
    """

    items: np.ndarray
    times: np.ndarray
    behaviors: np.ndarray
    lengths: np.ndarray
    users: np.ndarray
    held_out: np.ndarray
    first_row: np.ndarray
    duplicates: int
    dropped: dict[str, int]


def sessionise(
    rows: np.ndarray, gap_minutes: float, drop_duplicates: bool = False, drop_repeats: bool = False, longest: int | None = None
) -> Sessions:
    """Bring rows into sessions: those of the log, or those of a user with no gap longer than `gap_minutes`.

    Events of the same time stay in the order of the log. A session number that the log uses for two users means two sessions; its rows
    that name no user belong to its user where it has only one. A session never reaches from a training file into a test file.

    Args:
      rows: records in the order of the log, [rows] of `ROW`.
      gap_minutes: a new session starts when the gap is greater; unused where the log has sessions.
      drop_duplicates: leave out rows that repeat an earlier one in everything.
      drop_repeats: leave out events of the same item and behaviour as the one before in their session.
      longest: a session with more events is split into as few pieces of nearly equal length as fit; None: never.
    """
    group = _group(rows)
    order = _order(group, rows["time"])
    rows, group = rows[order], group[order]
    dropped = {"duplicate": 0, "repeat": 0}
    duplicate = _duplicates(rows, group)
    if drop_duplicates:
        rows, group = _drop(~duplicate, "duplicate", dropped, rows, group)
    session = np.cumsum(_starts(rows, group, gap_minutes), dtype=np.int32)
    if drop_repeats:
        changes = (np.diff(column, prepend=column[:1] - 1) != 0 for column in (session, rows["item"], rows["behavior"]))
        new = np.logical_or.reduce(list(changes))
        rows, session = _drop(new, "repeat", dropped, rows, session)
    starts = np.flatnonzero(np.diff(session, prepend=0))
    lengths = np.diff(np.append(starts, len(rows)))
    if longest is not None:
        lengths = _split(lengths, longest)
        starts = np.cumsum(lengths) - lengths
    first = rows[starts]
    columns = (np.ascontiguousarray(rows[name]) for name in ("item", "time", "behavior"))
    lines = (np.ascontiguousarray(first[name]) for name in ("user", "held_out", "row"))
    return Sessions(*columns, lengths.astype(np.int32), *lines, int(np.count_nonzero(duplicate)), dropped)


def _drop(kept: np.ndarray, reason: str, dropped: dict[str, int], *columns: np.ndarray) -> list[np.ndarray]:
    dropped[reason] = len(kept) - int(np.count_nonzero(kept))
    return [column[kept] for column in columns] if dropped[reason] else list(columns)


def _group(rows: np.ndarray) -> np.ndarray:
    """A number for every row that is shared only by rows that may stand in one session, [rows] int64."""
    session, user = rows["session"], rows["user"]
    if (session >= 0).any() and (user >= 0).any():
        # Numbers of this part's sessions only, so that the product below stays small.
        _, session = np.unique(session, return_inverse=True)
        user = _only_user(session, user)
        rows["user"] = user
    group = session.astype(np.int64) + 1
    group *= int(user.max(initial=-1)) + 2
    group += user + 1
    return group * 2 + rows["held_out"]


def _only_user(session: np.ndarray, user: np.ndarray) -> np.ndarray:
    """Users of rows, where a row without one gets the user of its session if that has exactly one."""
    unknown = user < 0
    if not unknown.any():
        return user
    least = np.full(session.max() + 1, np.iinfo(np.int32).max, np.int32)
    most = np.full(len(least), -1, np.int32)
    np.minimum.at(least, session[~unknown], user[~unknown])
    np.maximum.at(most, session[~unknown], user[~unknown])
    only = np.where(least == most, most, np.int32(-1))
    return np.where(unknown, only[session], user)


def _order(group: np.ndarray, times: np.ndarray) -> np.ndarray | slice:
    """Rows by group, then time, then place in the log."""
    later = (group[1:] > group[:-1]) | ((group[1:] == group[:-1]) & (times[1:] >= times[:-1]))
    return slice(None) if later.all() else np.lexsort((times, group))  # most published logs come sorted


def _starts(rows: np.ndarray, group: np.ndarray, gap_minutes: float) -> np.ndarray:
    starts = np.diff(group, prepend=-1) != 0
    if not (rows["session"] >= 0).any():
        # Times of a group ascend, so their differences are right as unsigned numbers even where they pass the signed range.
        gaps = np.diff(rows["time"], prepend=rows["time"][:1]).view(np.uint64)
        starts |= gaps > np.uint64(round(gap_minutes * 60 * NANOSECONDS))
    return starts


def _duplicates(rows: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Which of the ordered rows repeat an earlier one of the same group and time, [rows] bool."""
    tied = (np.diff(group) == 0) & (np.diff(rows["time"]) == 0)
    found = np.zeros(len(rows), bool)
    among = np.flatnonzero(np.append(tied, False) | np.append(False, tied))  # only rows that share group and time with a neighbour
    moment = np.cumsum(np.append(True, ~tied))[among]
    item, behavior = rows["item"][among], rows["behavior"][among]
    order = np.lexsort((behavior, item, moment))
    same = [np.diff(column[order]) == 0 for column in (moment, item, behavior)]
    found[among[order[1:][np.logical_and.reduce(same)]]] = True
    return found


def _split(lengths: np.ndarray, longest: int) -> np.ndarray:
    """Lengths of the pieces of sessions: as few as fit, nearly equal, so that only a limit of two leaves lonely events.

    >>> _split(np.array([2, 9, 4]), 4).tolist()
    [2, 3, 3, 3, 4]
    """
    pieces = -(-lengths // longest)
    number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    short, longer = np.divmod(lengths, pieces)
    return np.repeat(short, pieces) + (number < np.repeat(longer, pieces))
