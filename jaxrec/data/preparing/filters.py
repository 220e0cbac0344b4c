"""Filters: periods of sessions by their start; short sessions and rare items dropped until nothing changes."""

from typing import NamedTuple

import numpy as np

from jaxrec.data.preparing.cuts import Cuts
from jaxrec.data.preparing.session_log import SessionLog
from jaxrec.data.reading.time_units import NANOSECONDS

_NEVER = np.iinfo(np.int64).max


class Kept(NamedTuple):
    """What remains of a log: the events of known items in sessions that are not dropped.

    Attributes:
      known: items that remain, [item codes] bool.
      support: events of every item in the global period, [item codes] int64.
      lengths: events that remain of every session, 0 for a dropped one, [sessions] int32.
      starts: nanoseconds of the first of them, the end of time where there is none, [sessions] int64.
      periods: 0 global, 1 personal, 2 test, by that start, [sessions] int8.
      rounds: how many events each rule dropped in each round of the global period, then in the later periods.
    """

    known: np.ndarray
    support: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray
    periods: np.ndarray
    rounds: list[dict[str, int]]


def periods(starts: np.ndarray, held_out: np.ndarray, cuts: Cuts) -> np.ndarray:
    """Period of every session by its start: 0 global, 1 personal, 2 test, [sessions] int8."""
    test_from = _NEVER if cuts.test_from is None else cuts.test_from * NANOSECONDS
    personal_from = test_from if cuts.personal_from is None else cuts.personal_from * NANOSECONDS
    period = (starts >= personal_from).astype(np.int8) + (starts >= test_from)
    return np.where(held_out, np.int8(2), period)


def filter_events(log: SessionLog, n_items: int, cuts: Cuts, min_length: int, min_support: int) -> Kept:
    """Drop short sessions and rare items.

    In the global period both rules are applied until neither drops anything more. Later periods keep what the global period knows, then
    lose their short sessions. A session whose first events are dropped starts with the first that remains; where that lies in a later
    period, so does the session.
    """
    known, lengths, starts = np.ones(n_items, bool), log.lengths.copy(), log.starts.copy()
    in_global = periods(starts, log.held_out, cuts) == 0
    alive = np.ones(len(lengths), bool)
    rounds, rare_of_moved = [], 0
    while True:
        _look(log, known, in_global & alive, lengths, starts)
        moved = in_global & alive & (periods(starts, log.held_out, cuts) != 0)
        rare_of_moved += int((log.lengths[moved] - lengths[moved]).sum(dtype=np.int64))
        in_global &= ~moved
        short = in_global & alive & (lengths < min_length)
        alive &= ~short
        support = _support(log, known, in_global & alive)
        rare = support < min_support
        rounds.append({"short_session": int(lengths[short].sum(dtype=np.int64)), "rare_item": int(support[rare].sum())})
        known &= ~rare
        if not rounds[-1]["rare_item"]:
            break
    later = ~in_global
    _look(log, known, later, lengths, starts)
    unknown = int((log.lengths[later] - lengths[later]).sum(dtype=np.int64)) - rare_of_moved
    short = later & (lengths < min_length)
    rounds.append({"unknown_item": unknown, "short_session": int(lengths[short].sum(dtype=np.int64))})
    lengths[short | ~alive] = 0
    return Kept(known, support, lengths, starts, periods(starts, log.held_out, cuts), rounds)


def _look(log: SessionLog, known: np.ndarray, chosen: np.ndarray, lengths: np.ndarray, starts: np.ndarray) -> None:
    """Set lengths and starts of the chosen sessions to those of their events of known items."""
    if known.all():
        return
    for part, sessions in log.parts():
        if not chosen[sessions].any():
            continue
        keep = known[log.events(part, "items")]
        first = np.cumsum(log.lengths[sessions]) - log.lengths[sessions]
        found = np.add.reduceat(keep, first, dtype=np.int32)
        start = log.starts[sessions].copy()
        late = ~keep[first]
        if (late & chosen[sessions]).any():
            at = np.flatnonzero(keep)
            some = late & (found > 0)
            start[some] = log.events(part, "times")[at[(np.cumsum(found) - found)[some]]]
            start[found == 0] = _NEVER
        lengths[sessions] = np.where(chosen[sessions], found, lengths[sessions])
        starts[sessions] = np.where(chosen[sessions], start, starts[sessions])


def _support(log: SessionLog, known: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Events of every known item in the chosen sessions, [item codes] int64."""
    support = np.zeros(len(known), np.int64)
    for part, sessions in log.parts():
        if chosen[sessions].any():
            items = log.events(part, "items")[np.repeat(chosen[sessions], log.lengths[sessions])]
            support += np.bincount(items, minlength=len(support))
    return np.where(known, support, 0)
