"""Blocks hold every session once and exactly what its user clicked before it."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_logs import events

from jaxrec.data.blocks import Histories, session_blocks
from jaxrec.data.cuts import Cuts
from jaxrec.data.sessions import arrange, filter_events, sessionise

ROWS = st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abcd"), st.integers(0, 3000)), min_size=1, max_size=60)


def dataset_of(rows, sessions=None, cuts=Cuts(1000, 2000)):  # noqa: B008 (an immutable tuple)
    log = events(rows, sessions)
    found = sessionise(log, np.zeros(len(log), bool), 1.0)
    kept, _ = filter_events(found, cuts, 1, 1)
    return arrange(found, kept, cuts, log.item_names, log.user_names)[0]


def earlier(dataset, session):
    """The slow twin: items of all sessions of the same user with an earlier number, counted one by one."""
    own = [s for s in range(session) if dataset.users[s] == dataset.users[session] >= 0]
    return Counter(int(item) for s in own for item in dataset.session(s))


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(1, 20))
def test_every_session_is_in_one_block_with_its_events_and_history(rows, predictions):
    dataset = dataset_of(rows)
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
    dataset = dataset_of(rows)
    histories = Histories(dataset)
    starts = dataset.times[dataset.offsets[:-1]]
    for session in range(dataset.n_sessions):
        own = histories.sessions_of(int(dataset.users[session]), session)
        assert (starts[own] <= starts[session]).all()
        later = np.flatnonzero((dataset.users == dataset.users[session]) & (starts > starts[session]))
        assert not np.intersect1d(own, later).size


def test_predictions_are_of_the_next_click():
    dataset = dataset_of([("u", "a", 0), ("u", "b", 1), ("u", "a", 2), ("u", "b", 500), ("u", "a", 501)], cuts=Cuts(None, None))
    wide, narrow = sorted(session_blocks(dataset, [0, 1], predictions=2), key=lambda block: -block.mask.shape[1])
    assert wide.items.tolist() == [[0, 1, 0]]
    assert wide.mask.tolist() == [[True, True]]
    assert wide.history_items.tolist() == [[-1]]
    assert narrow.items.tolist() == [[1, 0], [0, 0]]
    assert narrow.mask.tolist() == [[True], [False]]
    assert narrow.history_items.tolist() == [[0, 1], [-1, -1]]
    assert narrow.history_counts.tolist() == [[2, 1], [0, 0]]
    assert narrow.sessions.tolist() == [1, -1]


def test_without_users_there_is_no_history():
    dataset = dataset_of([(None, "a", 0), (None, "b", 1), (None, "a", 2), (None, "b", 3)], sessions=[0, 0, 1, 1])
    (block,) = session_blocks(dataset, range(2), predictions=2)
    assert block.users.tolist() == [-1, -1]
    assert (block.history_items == -1).all()


@pytest.mark.parametrize("sessions", [[], [1]])
def test_only_the_sessions_asked_for(sessions):
    dataset = dataset_of([("u", "a", 0), ("u", "b", 1), ("u", "a", 500), ("u", "b", 501)])
    found = [int(s) for block in session_blocks(dataset, sessions, 1) for s in block.sessions]
    assert found == sessions
