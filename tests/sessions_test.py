"""Sessions, periods and filters against hand-worked logs and against a slow twin that loops over everything."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_logs import events, sessions_as_text

from jaxrec.data.cuts import Cuts, check_cuts, parse_cut, parse_instant
from jaxrec.data.events import NANOSECONDS
from jaxrec.data.sessions import arrange, filter_events, item_index, sessionise
from jaxrec.errors import InputError

PERIODS = ("global", "personal", "test")
NONE = Cuts(None, None)


def build(log, cuts=NONE, *, length=1, support=1, gap=1.0, held_out=None):
    held_out = np.zeros(len(log), bool) if held_out is None else held_out
    sessions = sessionise(log, held_out, gap)
    kept, dropped = filter_events(sessions, cuts, length, support)
    dataset, items, users = arrange(sessions, kept, cuts, log.item_names, log.user_names)
    return dataset, log.item_names.take(pa.array(items)), users, dropped


def words(log, cuts=NONE, **rules):
    dataset, names, _, _ = build(log, cuts, **rules)
    return [sessions_as_text(dataset, names, period) for period in PERIODS]


def test_a_gap_must_be_greater():
    log = events([("u", "a", 0), ("u", "b", 60), ("u", "c", 120.001), ("v", "d", 120.002)])
    assert words(log)[0] == ["ab", "c", "d"]


def test_events_of_one_time_stay_in_the_order_of_the_file():
    log = events([("u", "b", 5), ("v", "x", 5), ("u", "a", 5), ("u", "c", 4.999)])
    assert words(log)[0] == ["cba", "x"]


def test_a_session_number_of_two_users_is_two_sessions():
    log = events([("u", "a", 1), ("v", "b", 2), ("u", "c", 9999)], sessions=[7, 7, 7])
    assert words(log)[0] == ["ac", "b"]


def test_sessions_are_ordered_by_start_then_row():
    log = events([(None, "a", 3), (None, "b", 1), (None, "c", 1), (None, "d", 2)], sessions=[0, 2, 1, 2])
    assert words(log)[0] == ["bd", "c", "a"]


def test_a_session_belongs_to_the_period_in_which_it_starts():
    log = events([("u", "a", 0), ("u", "b", 50), ("u", "a", 200), ("u", "b", 260), ("v", "a", 100), ("v", "b", 400), ("v", "a", 401)])
    assert words(log, Cuts(100, 230)) == [["ab"], ["a", "ab"], ["ba"]]
    assert words(log, Cuts(None, 230)) == [["ab", "a", "ab"], [], ["ba"]]


def test_a_session_that_loses_its_first_events_starts_with_the_next():
    rows = [("u", "a", 0), ("u", "b", 1), ("v", "z", 90), ("v", "a", 110), ("v", "b", 111), ("w", "a", 2), ("w", "b", 3)]
    dataset, names, _, dropped = build(events(rows), Cuts(100, 110), support=2)
    assert [sessions_as_text(dataset, names, p) for p in PERIODS] == [["ab", "ab"], [], ["ab"]]
    assert dropped == {"short_session": 0, "rare_item": 1, "unknown_item": 0}


def test_both_filters_are_applied_until_nothing_changes():
    # c is rare; without it u's last session is short; without that, b is rare; without that, only aa is long enough.
    rows = [("u", "a", 0), ("u", "a", 1), ("v", "b", 0), ("v", "c", 1), ("w", "a", 0), ("w", "b", 1)]
    dataset, names, _, dropped = build(events(rows), length=2, support=2)
    assert sessions_as_text(dataset, names, "global") == ["aa"]
    assert dropped == {"short_session": 2, "rare_item": 2, "unknown_item": 0}


def test_later_periods_keep_what_the_global_period_knows():
    rows = [("u", "a", 0), ("u", "b", 1), ("u", "a", 200), ("u", "z", 201), ("u", "b", 202), ("v", "z", 300), ("v", "a", 301)]
    dataset, names, _, dropped = build(events(rows), Cuts(None, 200), length=2)
    assert sessions_as_text(dataset, names, "test") == ["ab"]
    assert dropped == {"short_session": 1, "rare_item": 0, "unknown_item": 2}
    assert dataset.item_counts.tolist() == [1, 1]


def test_items_are_indexed_by_falling_count_then_text():
    assert item_index(np.array([2, 0, 3, 2]), pa.array(["9", "8", "7", "10"])).tolist() == [2, 3, 0]


def test_users_are_indexed_by_text_and_only_where_a_session_remains():
    log = events([("9", "a", 0), ("9", "b", 1), ("10", "a", 5), ("10", "b", 6), ("1", "a", 9)])
    dataset, _, users, _ = build(log, length=2)
    assert [log.user_names[int(u)].as_py() for u in users] == ["10", "9"]
    assert dataset.users.tolist() == [1, 0]
    assert dataset.n_users == 2


def test_test_files_are_the_test_period_and_sessions_of_their_own():
    log = events([("u", "a", 0), ("u", "b", 1), ("u", "a", 2), ("u", "b", 3)])
    assert words(log, held_out=np.array([False, False, True, True])) == [["ab"], [], ["ab"]]


ROWS = st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abcd"), st.integers(0, 400)), min_size=1, max_size=40)


def slow_twin(rows, cuts, length, support, gap):
    """Periods of sessions as lists of (time, item), by loops, one rule at a time."""
    sessions = []
    for user in "uvw":
        last = None
        for _, item, time in sorted((row for row in rows if row[0] == user), key=lambda row: row[2]):
            if last is None or time - last > gap * 60:
                sessions.append([])
            sessions[-1].append((time, item))
            last = time

    def period(session):
        return (session[0][0] >= cuts.personal_from) + (session[0][0] >= cuts.test_from)

    known = set("abcd")
    while True:
        training = [s for s in sessions if s and period(s) == 0]
        counts = Counter(item for s in training if len(s) >= length for _, item in s)
        rare = {item for item in known if counts[item] < support}
        changed = [[] if period(s) == 0 and len(s) < length else [e for e in s if period(s) or e[1] not in rare] for s in sessions if s]
        if changed == sessions:
            break
        sessions = changed
    known = {item for s in sessions if s and period(s) == 0 for _, item in s}
    later = [[e for e in s if e[1] in known] if period(s) else s for s in sessions if s]
    kept = [s for s in later if len(s) >= length]
    return [sorted(s for s in kept if period(s) == p) for p in range(3)]


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(1, 400), st.integers(0, 200), st.integers(1, 3), st.integers(1, 3))
def test_the_same_as_the_slow_twin(rows, personal_from, more, length, support):
    cuts = Cuts(personal_from, personal_from + more)
    dataset, names, _, dropped = build(events(rows), cuts, length=length, support=support, gap=0.5)
    found = []
    for period in PERIODS:
        spans = [slice(dataset.offsets[s], dataset.offsets[s + 1]) for s in dataset.period(period)]
        found.append(
            sorted([(int(t), names[int(i)].as_py()) for t, i in zip(dataset.times[s], dataset.items[s], strict=True)] for s in spans)
        )
    assert found == slow_twin(rows, cuts, length, support, 0.5)
    assert len(rows) == len(dataset.items) + sum(dropped.values())
    starts = dataset.times[dataset.offsets[:-1]]
    period = (starts >= cuts.personal_from).astype(int) + (starts >= cuts.test_from)
    np.testing.assert_array_equal(period, np.repeat(range(3), np.diff(dataset.period_offsets)))


@settings(max_examples=50, deadline=None)
@given(st.permutations([(u, i, t) for t, (u, i) in enumerate(zip("uvwuvwuvwuvw", "abcabdaabcda", strict=True))]))
def test_the_order_of_rows_does_not_matter_where_times_differ(rows):
    first, names, _, _ = build(events(sorted(rows, key=lambda row: row[2])), Cuts(4, 8), support=2)
    second, again, _, _ = build(events(rows), Cuts(4, 8), support=2)
    assert names.to_pylist() == again.to_pylist()
    for field in ("items", "times", "offsets", "users", "item_counts"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))


def test_instants():
    assert parse_instant("2017-12-01T00:00+08:00", "time_from") == parse_instant("2017-11-30T16:00:00Z", "time_from") == 1512057600
    for wrong in ("2017-12-01T00:00", "soon", "1512057600.5", "nan", ""):
        with pytest.raises(InputError, match="--time_from: expected an ISO-8601 instant with a zone or unix seconds"):
            parse_instant(wrong, "time_from")


def test_a_fraction_is_of_events_in_time_order_and_exact():
    times = np.arange(100)[::-1] * NANOSECONDS
    assert parse_cut("0.29", "test_from", times) == 29  # 0.29 * 100 is below 29 in floating point
    assert parse_cut("1", "test_from", times) == 1  # unix seconds
    assert parse_cut(".5", "test_from", times) == 50


def test_cuts_out_of_order_or_out_of_the_log_name_both_times():
    times = np.array([0, 100]) * NANOSECONDS
    with pytest.raises(InputError, match=r"--personal_from.*--test_from \(1970-01-01T00:00:10Z\); got 1970-01-01T00:00:20Z"):
        check_cuts(Cuts(20, 10), times)
    for cut in (0, 101):
        with pytest.raises(InputError, match=r"--test_from.*after 1970-01-01T00:00:00Z and up to 1970-01-01T00:01:40Z; got"):
            check_cuts(Cuts(None, cut), times)
    check_cuts(Cuts(1, 100), times)
