"""Instants and cuts: where one period of time ends and the next begins.

Cuts are whole seconds, so that the times of a dataset, which are seconds, show on which side of a cut a session starts.
"""

import datetime
import fractions
import re
from typing import NamedTuple

import numpy as np

from jaxrec.data.events import NANOSECONDS
from jaxrec.errors import InputError

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
    if seconds.denominator != 1:
        raise InputError(f"{expected}, in whole seconds; got {text!r}")
    return int(seconds)


def parse_cut(text: str, name: str, times: np.ndarray) -> int:
    """Seconds since 1970 (UTC) of an instant, or of a fraction in (0, 1) of all events in time order.

    Args:
      text: what was given.
      name: the option, for errors.
      times: nanoseconds of all parsed events, [rows].

    >>> parse_cut("0.5", "test_from", np.arange(10) * NANOSECONDS)
    5
    """
    share = fractions.Fraction(text) if _NUMBER.fullmatch(text) else fractions.Fraction(0)
    if not 0 < share < 1:
        return parse_instant(text, name)
    position = int(share * len(times))
    return int(np.partition(times, position)[position] // NANOSECONDS)


def iso(seconds: int | None) -> str:
    """An instant as text.

    >>> iso(1512057600), iso(None)
    ('2017-11-30T16:00:00Z', 'none')
    """
    if seconds is None:
        return "none"
    return str(np.datetime64(int(seconds), "s")) + "Z"


def check_cuts(cuts: Cuts, times: np.ndarray) -> None:
    """Cuts stand in order and have events on both sides.

    Raises:
      InputError: they do not; names both times.
    """
    personal, test = cuts
    if personal is not None and test is not None and personal > test:
        raise InputError(f"--personal_from: expected a time not after --test_from ({iso(test)}); got {iso(personal)}")
    first, last = int(times.min() // NANOSECONDS), int(times.max() // NANOSECONDS)
    for name, cut in cuts._asdict().items():
        if cut is not None and not first < cut <= last:
            raise InputError(f"--{name}: expected a time within the log, after {iso(first)} and up to {iso(last)}; got {iso(cut)}")
