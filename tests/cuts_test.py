"""Instants, fractions of events in time order, and cuts that do not fit a log."""

import datetime
import fractions

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec.data.preparing.cuts import Cuts, Moments, check_cuts, parse_cut, parse_instant
from jaxrec.data.reading.time_units import NANOSECONDS
from jaxrec.errors import InputError


def moments_of(*pieces):
    found = Moments()
    for piece in pieces:
        found.add(np.array(piece, np.int64))
    return found


def test_instants():
    assert parse_instant("2017-12-01T00:00+08:00", "time_from") == parse_instant("2017-11-30T16:00:00Z", "time_from") == 1512057600
    for wrong in ("2017-12-01T00:00", "soon", "1512057600.5", "nan", ""):
        with pytest.raises(InputError, match="--time_from: expected an ISO-8601 instant with a zone or unix seconds"):
            parse_instant(wrong, "time_from")


def test_a_fraction_is_of_events_in_time_order_and_exact():
    times = np.arange(100)[::-1] * NANOSECONDS
    found = moments_of(times[:30], [], times[30:])

    def second_at(share):
        return found.second_at(share, [times])

    assert parse_cut("0.29", "test_from", second_at) == 29  # 0.29 * 100 is below 29 in floating point
    assert parse_cut("1", "test_from", second_at) == 1  # unix seconds
    assert parse_cut(".5", "test_from", second_at) == 50
    assert (found.first, found.last) == (0, 99)


SECONDS = st.lists(st.one_of(st.integers(-20_000, 20_000), st.integers(-(9 * 10**9), 9 * 10**9)), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(SECONDS, SECONDS, st.fractions(0, 1).filter(lambda share: 0 < share < 1))
def test_the_event_at_a_share_is_that_of_the_sorted_times(first, second, share):
    times = [np.array(one) * NANOSECONDS + 7 for one in (first, second)]
    expected = sorted(first + second)[int(share * len(first + second))]
    assert moments_of(*times).second_at(fractions.Fraction(share), iter(times)) == expected


def test_cuts_out_of_order_or_out_of_the_log_name_both_times():
    with pytest.raises(InputError, match=r"--personal_from.*--test_from \(1970-01-01T00:00:10Z\); got 1970-01-01T00:00:20Z"):
        check_cuts(Cuts(20, 10), 0, 100)
    for cut in (0, 101):
        with pytest.raises(InputError, match=r"--test_from.*after 1970-01-01T00:00:00Z and up to 1970-01-01T00:01:40Z; got") as caught:
            check_cuts(Cuts(None, cut), 0, 100)
        assert "default" not in str(caught.value)
    with pytest.raises(InputError, match="which the default fraction gives"):
        check_cuts(Cuts(None, 0), 0, 100, given=[])
    check_cuts(Cuts(1, 100), 0, 100)


def test_iso_instants_of_python_are_understood():
    assert parse_instant(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC).isoformat(), "test_from") == 1577836800
