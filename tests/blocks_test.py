"""Blocks hold every session once and exactly what its user clicked before it."""

import dataclasses
from collections import Counter
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import dataset_of

from jaxrec.data import blocks
from jaxrec.data.blocks import Histories, session_blocks

ROWS = st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abcd"), st.integers(0, 3000)), min_size=1, max_size=60)


def dataset_from(rows, numbers=None):
    """Sessions of (user, item, seconds) clicks in order of their start: those of the given numbers, or by user with gaps of a minute."""
    sessions, latest = [], {}
    for number, row in sorted(zip(numbers or [user for user, _, _ in rows], rows, strict=True), key=lambda one: one[1][2]):
        if number not in latest or (numbers is None and row[2] - latest[number][-1][2] > 60):
            latest[number] = []
            sessions.append(latest[number])
        latest[number].append(row)
    items = [["abcd".index(item) for _, item, _ in session] for session in sessions]
    users = [-1 if session[0][0] is None else "uvw".index(session[0][0]) for session in sessions]
    times = np.array([second for session in sessions for _, _, second in session])
    return dataclasses.replace(dataset_of(items, users, n_items=4), times=times)


def earlier(dataset, session):
    """The slow twin: items of all sessions of the same user with an earlier number, counted one by one until the session starts."""
    own = [s for s in range(session) if dataset.users[s] == dataset.users[session] >= 0]
    start, offsets = dataset.times[dataset.offsets[session]], dataset.offsets
    return Counter(int(dataset.items[e]) for s in own for e in range(offsets[s], offsets[s + 1]) if dataset.times[e] <= start)


def told_one_by_one(dataset, session):
    """The slow twin: {item: (decayed count, clicks since the last one)} when the session starts."""
    own = [s for s in range(session) if dataset.users[s] == dataset.users[session] >= 0]
    start, offsets = dataset.times[dataset.offsets[session]], dataset.offsets
    clicks = [
        (int(dataset.items[e]), len(own) - n)
        for n, s in enumerate(own)
        for e in range(offsets[s], offsets[s + 1])
        if dataset.times[e] <= start
    ]
    found = {}
    for number, (item, sessions_ago) in enumerate(clicks):
        decayed, _ = found.get(item, (0.0, 0))
        found[item] = decayed + 1 / (1 + sessions_ago), len(clicks) - 1 - number
    return {item: (float(np.float32(decayed)), ago) for item, (decayed, ago) in found.items()}


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(1, 20))
def test_every_session_is_in_one_block_with_its_events_and_history(rows, predictions):
    dataset = dataset_from(rows)
    seen = []
    for block in session_blocks(dataset, range(dataset.n_sessions), predictions):
        width = block.mask.shape[1]
        assert width & (width - 1) == 0
        for row, session in enumerate(block.sessions):
            steps = int(block.mask[row].sum())
            if session < 0:
                assert (steps, block.users[row], block.history_counts[row].sum()) == (0, -1, 0)
                continue
            seen.append(int(session))
            np.testing.assert_array_equal(block.items[row, : steps + 1], dataset.session(session))
            assert not block.items[row, steps + 1 :].any()
            assert block.mask[row, :steps].all()
            assert block.users[row] == dataset.users[session]
            held = block.history_items[row] >= 0
            history = dict(zip(block.history_items[row, held].tolist(), block.history_counts[row, held].tolist(), strict=True))
            assert history == earlier(dataset, session)
            assert not block.history_counts[row, ~held].any()
    assert sorted(seen) == list(range(dataset.n_sessions))


@settings(max_examples=50, deadline=None)
@given(ROWS)
def test_earlier_sessions_started_before(rows):
    dataset = dataset_from(rows)
    histories = Histories(dataset)
    starts = dataset.times[dataset.offsets[:-1]]
    for session in range(dataset.n_sessions):
        own = histories.sessions_of(int(dataset.users[session]), session)
        assert (starts[own] <= starts[session]).all()
        later = np.flatnonzero((dataset.users == dataset.users[session]) & (starts > starts[session]))
        assert not np.intersect1d(own, later).size


@given(st.integers(0, 1000), st.integers(1, 12), st.integers(1, 5))
def test_histories_of_many_sessions_are_those_of_each(seed, asked, histories_at_once):
    """Sessions that overlap in time, of users and of nobody, in any order and more than once."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, 6, 12)
    dataset = dataset_of([generator.integers(0, 4, n).tolist() for n in lengths], generator.integers(-1, 3, 12).tolist(), n_items=4)
    starts = np.sort(generator.integers(0, 20, 12))
    times = np.concatenate([start + 4 * np.arange(n) for start, n in zip(starts, lengths, strict=True)])
    dataset = dataclasses.replace(dataset, times=times)
    sessions = generator.integers(0, 12, asked)
    with mock.patch.object(blocks, "HISTORIES_AT_ONCE", histories_at_once):
        row, items, counts, decayed, ago = Histories(dataset).before_each(sessions)
    for number, session in enumerate(sessions):
        found = zip(items[row == number].tolist(), counts[row == number].tolist(), strict=True)
        assert list(found) == sorted(earlier(dataset, session).items())
        times = zip(decayed[row == number].tolist(), ago[row == number].tolist(), strict=True)
        assert list(times) == [value for _, value in sorted(told_one_by_one(dataset, session).items())]
    assert (np.diff(row) >= 0).all()


def test_predictions_are_of_the_next_click():
    dataset = dataset_from([("u", "a", 0), ("u", "b", 1), ("u", "a", 2), ("u", "b", 500), ("u", "a", 501)])
    wide, narrow = sorted(session_blocks(dataset, [0, 1], predictions=2), key=lambda block: -block.mask.shape[1])
    assert wide.items.tolist() == [[0, 1, 0]]
    assert wide.mask.tolist() == [[True, True]]
    assert wide.history_items.tolist() == [[-1]]
    assert narrow.items.tolist() == [[1, 0], [0, 0]]
    assert narrow.mask.tolist() == [[True], [False]]
    assert narrow.history_items.tolist() == [[0, 1], [-1, -1]]
    assert narrow.history_counts.tolist() == [[2, 1], [0, 0]]
    assert narrow.sessions.tolist() == [1, -1]


def test_histories_that_are_not_asked_for_are_empty():
    dataset = dataset_from([("u", "a", 0), ("u", "b", 1), ("u", "a", 500), ("u", "b", 501)])
    (block,) = session_blocks(dataset, range(2), predictions=2, histories=False)
    assert block.history_items.tolist() == [[-1], [-1]] and block.history_counts.tolist() == [[0], [0]]
    (full,) = session_blocks(dataset, range(2), predictions=2)
    for name in ("items", "mask", "sessions", "users"):
        np.testing.assert_array_equal(getattr(block, name), getattr(full, name))


@pytest.mark.parametrize(("lengths", "filled"), [((2, 5, 5), 12), ((3, 3, 3), 8), ((5, 5, 5), 12), ((5, 5, 4, 5), 16), ((2,), 4)])
def test_places_of_predictions_in_order_filled_to_a_quarter(lengths, filled):
    sessions = [(number, "a", 100 * number + step) for number, length in enumerate(lengths) for step in range(length)]
    dataset = dataset_from([(None, item, time) for _, item, time in sessions], numbers=[number for number, _, _ in sessions])
    block = blocks._session_block(dataset, None, np.arange(len(lengths)), 4, 4)
    row, step = block.predictions()
    expected = [(number, step) for number, length in enumerate(lengths) for step in range(length - 1)]
    places = list(zip(row.tolist(), step.tolist(), strict=True))
    assert places == expected + [(0, 0)] * (filled - len(expected))


def test_blocks_of_many_lengths_have_four_numbers_of_predictions():
    generator = np.random.default_rng(0)
    dataset = dataset_of([[0] * int(n) for n in generator.integers(2, 33, 500)], n_items=1)
    assert {len(block.predictions()[0]) for block in session_blocks(dataset, range(500), predictions=64)} <= {16, 32, 48, 64}


def test_without_users_there_is_no_history():
    dataset = dataset_from([(None, "a", 0), (None, "b", 1), (None, "a", 2), (None, "b", 3)], numbers=[0, 0, 1, 1])
    (block,) = session_blocks(dataset, range(2), predictions=2)
    assert block.users.tolist() == [-1, -1]
    assert (block.history_items == -1).all()


@pytest.mark.parametrize("sessions", [[], [1]])
def test_only_the_sessions_asked_for(sessions):
    dataset = dataset_from([("u", "a", 0), ("u", "b", 1), ("u", "a", 500), ("u", "b", 501)])
    found = [int(s) for block in session_blocks(dataset, sessions, 1) for s in block.sessions]
    assert found == sessions


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=30), st.lists(st.integers(0, 3)), st.integers(0, 30), st.integers(0, 30))
def test_sessions_of_many_users_are_those_of_each(owners, users, first, before):
    dataset = dataset_of([[0, 1]] * (len(owners) + 1), [*owners, 3])
    sessions, number = Histories(dataset).sessions_of_each(np.array(users, np.int64), first, before)
    expected = [[s for s, owner in enumerate([*owners, 3]) if owner == user and first <= s < before] for user in users]
    assert sessions.tolist() == [s for own in expected for s in own]
    assert number.tolist() == [len(own) for own in expected]
