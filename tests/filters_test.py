"""Periods and filters against hand-worked logs and against a slow twin that loops over everything."""

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from small_logs import UNCUT, arranged, log_of

from jaxrec.data.preparing.arrange import item_index
from jaxrec.data.preparing.cuts import Cuts


def words(rows, cuts=UNCUT, **rules):
    return arranged(log_of(rows), cuts, **rules).words


def test_a_session_belongs_to_the_period_in_which_it_starts():
    rows = [("u", "a", 0), ("u", "b", 50), ("u", "a", 200), ("u", "b", 260), ("v", "a", 100), ("v", "b", 400), ("v", "a", 401)]
    assert words(rows, Cuts(100, 230)) == [["ab"], ["a", "ab"], ["ba"]]
    assert words(rows, Cuts(None, 230)) == [["ab", "a", "ab"], [], ["ba"]]


def test_a_session_that_loses_its_first_events_starts_with_the_next():
    rows = [("u", "a", 0), ("u", "b", 1), ("v", "z", 90), ("v", "a", 110), ("v", "b", 111), ("w", "a", 2), ("w", "b", 3)]
    found = arranged(log_of(rows), Cuts(100, 110), support=2)
    assert found.words == [["ab", "ab"], [], ["ab"]]
    assert {reason: count for reason, count in found.dropped.items() if count} == {"rare_item": 1}


def test_both_filters_are_applied_until_nothing_changes():
    # c is rare; without it v's session is short; without that, b is rare; without that, only aa is long enough.
    rows = [("u", "a", 0), ("u", "a", 1), ("v", "b", 0), ("v", "c", 1), ("w", "a", 0), ("w", "b", 1)]
    found = arranged(log_of(rows), length=2, support=2)
    assert found.words[0] == ["aa"]
    assert found.rounds == [
        {"short_session": 0, "rare_item": 1},
        {"short_session": 1, "rare_item": 1},
        {"short_session": 1, "rare_item": 0},
        {"unknown_item": 0, "short_session": 0},
    ]


def test_later_periods_keep_what_the_global_period_knows():
    rows = [("u", "a", 0), ("u", "b", 1), ("u", "a", 200), ("u", "z", 201), ("u", "b", 202), ("v", "z", 300), ("v", "a", 301)]
    found = arranged(log_of(rows), Cuts(None, 200), length=2)
    assert found.words[2] == ["ab"]
    assert found.rounds == [{"short_session": 0, "rare_item": 0}, {"unknown_item": 2, "short_session": 1}]


def test_items_are_indexed_by_falling_count_then_text():
    found = arranged(log_of([("u", item, time) for time, item in enumerate("bbbaac" + "d" * 3)]))
    assert "".join(found.arrays["letters"]) == "bdac"
    assert item_index(np.array([2, 0, 3, 2]), pa.array(["9", "8", "7", "10"])).tolist() == [2, 3, 0]


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
@given(ROWS, st.integers(1, 400), st.integers(0, 200), st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 2, 5]))
def test_the_same_as_the_slow_twin(rows, personal_from, more, length, support, parts):
    cuts = Cuts(personal_from, personal_from + more)
    found = arranged(log_of(rows), cuts, length=length, support=support, gap=0.5, parts=parts)
    together = [
        sorted(list(zip(times, word, strict=True)) for times, word in zip(*period, strict=True))
        for period in zip(found.times, found.words, strict=True)
    ]
    assert together == slow_twin(rows, cuts, length, support, 0.5)
    assert len(rows) == len(found.arrays["items"]) + sum(found.dropped.values())
    starts = found.arrays["times"][found.arrays["offsets"][:-1]]
    period = (starts >= cuts.personal_from).astype(int) + (starts >= cuts.test_from)
    np.testing.assert_array_equal(period, np.repeat(range(3), np.diff(found.arrays["period_offsets"])))


@settings(max_examples=60, deadline=None)
@given(ROWS, st.booleans(), st.integers(2, 9), st.integers(1, 30), st.integers(1, 9))
def test_neither_parts_nor_stretches_nor_chunks_change_anything(rows, with_sessions, parts, most_events, chunk):
    sessions = [time // 30 for _, _, time in rows] if with_sessions else None
    once = arranged(log_of(rows, sessions), Cuts(150, 300), length=2, gap=0.5)
    again = arranged(log_of(rows, sessions, chunk=chunk), Cuts(150, 300), length=2, gap=0.5, parts=parts, most_events=most_events)
    for name in once.arrays:
        np.testing.assert_array_equal(once.arrays[name], again.arrays[name])
    assert (once.users, once.rounds) == (again.users, again.rounds)


@settings(max_examples=50, deadline=None)
@given(st.permutations([(u, i, t) for t, (u, i) in enumerate(zip("uvwuvwuvwuvw", "abcabdaabcda", strict=True))]))
def test_the_order_of_rows_does_not_matter_where_times_differ(rows):
    first = arranged(log_of(sorted(rows, key=lambda row: row[2])), Cuts(4, 8), support=2)
    second = arranged(log_of(rows), Cuts(4, 8), support=2, parts=2)
    assert (first.words, first.times, first.users) == (second.words, second.times, second.users)
    np.testing.assert_array_equal(first.arrays["letters"], second.arrays["letters"])
