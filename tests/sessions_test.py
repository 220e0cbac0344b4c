"""Sessions against hand-worked logs: gaps, ties, users, duplicates, repeats, pieces."""

import pytest
from small_logs import arranged, log_of


def words(rows, sessions=None, **rules):
    return arranged(log_of(rows, sessions), **rules).words[0]


def test_a_gap_must_be_greater():
    assert words([("u", "a", 0), ("u", "b", 60), ("u", "c", 120.001), ("v", "d", 120.002)]) == ["ab", "c", "d"]


@pytest.mark.parametrize("parts", [1, 3])
def test_events_of_one_time_stay_in_the_order_of_the_file(parts):
    assert words([("u", "b", 5), ("v", "x", 5), ("u", "a", 5), ("u", "c", 4.999)], parts=parts) == ["cba", "x"]


def test_a_session_number_of_two_users_is_two_sessions():
    assert words([("u", "a", 1), ("v", "b", 2), ("u", "c", 9999)], [7, 7, 7]) == ["ac", "b"]


def test_a_row_without_a_user_belongs_to_the_only_user_of_its_session():
    rows = [(None, "a", 1), ("u", "b", 2), (None, "c", 3), (None, "d", 4), ("u", "e", 5), ("v", "f", 6)]
    found = arranged(log_of(rows, [1, 1, 1, 2, 3, 3]))
    assert list(zip(found.words[0], found.users, strict=True)) == [("abc", "u"), ("d", ""), ("e", "u"), ("f", "v")]


def test_where_a_session_has_two_users_a_row_without_one_stands_alone():
    found = arranged(log_of([("u", "a", 1), ("v", "b", 2), (None, "c", 3)], [1, 1, 1]))
    assert list(zip(found.words[0], found.users, strict=True)) == [("a", "u"), ("b", "v"), ("c", "")]


def test_sessions_are_ordered_by_start_then_row():
    assert words([(None, "a", 3), (None, "b", 1), (None, "c", 1), (None, "d", 2)], [0, 2, 1, 2]) == ["bd", "c", "a"]


def test_test_files_are_the_test_period_and_sessions_of_their_own():
    train, test = (log_of([("u", "a", start), ("u", "b", start + 1)]) for start in (0, 2))
    assert arranged(train, test=test).words == [["ab"], [], ["ab"]]


def test_sessions_of_one_name_in_training_and_test_files_are_two():
    train, test = (log_of([(None, item, 1)], ["s"]) for item in "ab")
    found = arranged(train, test=test)
    assert found.dropped["unknown_item"] == 1 and found.words == [["a"], [], []]


def test_repeats_are_dropped_within_a_session_only():
    rows = [("u", item, time) for time, item in enumerate("aababb")] + [("u", "b", 100), ("v", "b", 100)]
    found = arranged(log_of(rows), drop_repeats=True)
    assert found.words[0] == ["abab", "b", "b"]
    assert found.dropped["repeat"] == 2
    assert words(rows) == ["aababb", "b", "b"]


def test_the_gap_is_measured_before_repeats_are_dropped():
    assert words([("u", "a", 0), ("u", "a", 50), ("u", "b", 100)], drop_repeats=True) == ["ab"]


def test_duplicates_repeat_an_earlier_row_in_everything():
    rows = [("u", "a", 1), ("u", "b", 1), ("u", "a", 1), ("u", "a", 2), ("v", "a", 1), ("u", "a", 1)]
    found = arranged(log_of(rows, behavior=["pv", "pv", "pv", "pv", "pv", "buy"]), drop_duplicates=True)
    assert found.words[0] == ["abaa", "a"]
    assert found.dropped["duplicate"] == 1
    assert words(rows) == ["abaaa", "a"]


def test_long_sessions_are_split_and_lose_nothing():
    rows = [("u", item, time) for time, item in enumerate("abcdefghi")] + [("v", item, time + 1000) for time, item in enumerate("abcd")]
    assert words(rows, longest=4) == ["abc", "def", "ghi", "abcd"]
    assert words(rows, longest=100) == ["abcdefghi", "abcd"]


def test_a_click_and_a_purchase_of_one_item_are_no_repeat():
    rows = [("u", "a", time) for time in range(4)]
    assert arranged(log_of(rows, behavior=["pv", "buy", "buy", "pv"]), drop_repeats=True).words[0] == ["aaa"]


def test_times_that_are_ages_apart_are_no_session():
    assert words([("u", "a", -9_200_000_000), ("u", "b", -9_199_999_990), ("u", "c", 9_200_000_000)]) == ["ab", "c"]
