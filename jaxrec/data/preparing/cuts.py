"""Instants and cuts: where one period of time ends and the next begins.

Cuts are whole seconds, so that the times of a dataset, which are seconds, show on which side of a cut a session starts.
"""

import datetime
import fractions
import re
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import numpy as np

from jaxrec.data.dataset import iso
from jaxrec.data.reading.time_units import NANOSECONDS
from jaxrec.errors import InputError

_STRETCH = 12  # bits
_END_OF_TIME = 2**63 // NANOSECONDS  # seconds whose nanoseconds fit into 64 bits
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?|[+-]?\.\d+")


class Cuts(NamedTuple):
    """Seconds since 1970 (UTC) at which the personal period and the test period begin; None where there is no such period in the log."""

    personal_from: int | None
    test_from: int | None


def parse_instant(text: str, name: str) -> int:
    """Seconds since 1970 (UTC) of an ISO-8601 instant with a zone, or of unix seconds; `name` is the option, for errors.

    >>> parse_instant("2017-12-01T00:00+08:00", "time_from"), parse_instant("1512057600", "time_from")
    (1512057600, 1512057600)
    """
    expected = f"--{name}: expected an ISO-8601 instant with a zone or unix seconds"
    if _NUMBER.fullmatch(text):
        seconds = fractions.Fraction(text)
    else:
        try:
            instant = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise InputError(f"{expected}; got {text!r}") from None
        if instant.tzinfo is None:
            raise InputError(f"{expected}; got {text!r}, which has no zone (such as Z or +08:00)")
        since = instant - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        seconds = fractions.Fraction(since // datetime.timedelta(microseconds=1), 1_000_000)
    if abs(seconds) >= _END_OF_TIME:
        raise InputError(f"{expected}, of the years 1678 to 2261; got {text!r}")
    if seconds.denominator != 1:
        raise InputError(f"{expected}, in whole seconds; got {text!r}")
    return int(seconds)


class Moments:
    """At which seconds events lie, taken in piece by piece: enough to find the event of any rank in time order, exactly.

    It counts events by stretches of 4,096 seconds, so one more look at the events of a single stretch finds the second.
    """

    def __init__(self):
        self._stretches = np.zeros(0, np.int64)
        self._counts = np.zeros(0, np.int64)
        self.first: int | None = None
        self.last: int | None = None

    def add(self, times: np.ndarray) -> None:
        """Take in the nanoseconds of some events, [rows]."""
        if not len(times):
            return
        first, last = int(times.min()) // NANOSECONDS, int(times.max()) // NANOSECONDS
        self.first = first if self.first is None else min(first, self.first)
        self.last = last if self.last is None else max(last, self.last)
        counts = np.bincount((times // NANOSECONDS >> _STRETCH) - (first >> _STRETCH))
        stretches = np.concatenate([self._stretches, np.flatnonzero(counts) + (first >> _STRETCH)])
        self._stretches, place = np.unique(stretches, return_inverse=True)
        self._counts = np.bincount(place, np.concatenate([self._counts, counts[counts > 0]])).astype(np.int64)

    def second_at(self, share: fractions.Fraction, again: Iterable[np.ndarray]) -> int:
        """The second of the event at a share in (0, 1) of all in time order; `again` yields the nanoseconds of all events once more."""
        position = int(share * int(self._counts.sum()))
        ends = np.cumsum(self._counts)
        stretch = int(np.searchsorted(ends, position, side="right"))
        start = int(self._stretches[stretch]) << _STRETCH
        counts = np.zeros(1 << _STRETCH, np.int64)
        for times in again:
            seconds = times // NANOSECONDS - start
            counts += np.bincount(seconds[(seconds >= 0) & (seconds < len(counts))], minlength=len(counts))
        before = int(ends[stretch] - self._counts[stretch])
        return start + int(np.searchsorted(np.cumsum(counts), position - before, side="right"))


def parse_cut(text: str, name: str, second_at: Callable[[fractions.Fraction], int]) -> int:
    """Seconds since 1970 (UTC) of an instant, or of a fraction in (0, 1) of all events in time order.

    Args:
      text: what was given.
      name: the option, for errors.
      second_at: gives the second of the event at a fraction.

    >>> parse_cut("0.5", "test_from", lambda share: int(share * 10))
    5
    """
    share = fractions.Fraction(text) if _NUMBER.fullmatch(text) else fractions.Fraction(0)
    return second_at(share) if 0 < share < 1 else parse_instant(text, name)


def check_cuts(cuts: Cuts, first: int, last: int, given: Collection[str] = Cuts._fields) -> None:
    """Cuts stand in order and have events on both sides.

    Args:
      cuts: to check.
      first, last: seconds of the first and the last event.
      given: names of the cuts that were asked for; others are defaults, and the error says so.

    Raises:
      InputError: they do not; names both times.
    """
    personal, test = cuts
    if personal is not None and test is not None and personal > test:
        raise InputError(f"--personal_from: expected a time not after --test_from ({iso(test)}); got {iso(personal)}")
    for name, cut in cuts._asdict().items():
        if cut is not None and not first < cut <= last:
            default = (
                ""
                if name in given
                else f", which the default fraction gives: the log may be too short in time to be cut; --{name} names a cut"
            )
            raise InputError(f"--{name}: expected a time within the log, after {iso(first)} and up to {iso(last)}; got {iso(cut)}{default}")
