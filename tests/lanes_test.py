"""Laws of session-parallel lanes."""

import itertools
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import random_sessions

from jaxrec.data import lanes as lanes_module
from jaxrec.data.lanes import plan_lanes


def pairs_of(items, offsets):
    return [(items[i], items[i + 1]) for a, b in itertools.pairwise(offsets) for i in range(a, b - 1)]


def slow_plan(items, offsets, lanes, steps):
    """The slow twin: one lane after the other grows by one session; [(item, target, predicts, reset), ...] of every lane."""
    rows = [[] for _ in range(lanes)]
    for a, b in itertools.pairwise(offsets):
        if b - a > 1:
            row = min(rows, key=len)  # the first of the shortest
            row += [(items[i], items[i + 1], True, i == a) for i in range(a, b - 1)]
            row += [(items[b - 1], 0, False, False)] * (steps > 1)
    return rows


@given(st.lists(st.integers(1, 7), max_size=30), st.integers(1, 7), st.integers(1, 5), st.integers(1, 10))
def test_a_plan_is_that_of_one_session_after_the_other(lengths, lanes, steps, sessions_at_once):
    offsets = np.cumsum([0, *lengths])
    items = np.arange(1, offsets[-1] + 1, dtype=np.int32)
    with mock.patch.object(lanes_module, "SESSIONS_AT_ONCE", sessions_at_once):
        plan = plan_lanes(items, offsets, lanes, steps)
    rows = slow_plan(items, offsets, lanes, steps)
    assert len(plan.items) == -(-max(map(len, rows)) // steps)
    for lane, row in enumerate(rows):
        read, target = plan.items[:, lane, :-1].ravel(), plan.items[:, lane, 1:].ravel()
        mask, reset = plan.mask[:, lane].ravel(), plan.reset[:, lane].ravel()
        found = [(i, j if live else 0, live, starts) for i, j, live, starts in zip(read, target, mask, reset, strict=True)]
        assert found == row + [(0, 0, False, False)] * (len(read) - len(row))


@given(st.integers(0, 1000), st.integers(1, 7), st.integers(1, 5))
def test_every_pair_is_used_exactly_once(seed, lanes, steps):
    items, offsets = random_sessions(seed, sessions=15)
    plan = plan_lanes(items, offsets, lanes, steps)
    planned = list(zip(plan.items[:, :, :-1][plan.mask], plan.items[:, :, 1:][plan.mask], strict=True))
    assert sorted(planned) == sorted(pairs_of(items, offsets))
    assert plan.mask.sum() == (np.diff(offsets) - 1).sum()


@pytest.mark.parametrize("steps", [1, 3])
def test_a_lane_holds_whole_sessions_one_after_another_from_reset_to_reset(steps):
    items, offsets = random_sessions(3)
    plan = plan_lanes(items, offsets, 4, steps)
    found = []
    for lane in range(4):
        read, target = plan.items[:, lane, :-1].ravel(), plan.items[:, lane, 1:].ravel()
        live, starts = plan.mask[:, lane].ravel(), plan.reset[:, lane].ravel()
        for at in np.flatnonzero(starts):
            stop = at
            while stop < len(live) and live[stop] and (stop == at or not starts[stop]):
                stop += 1
            found.append((*read[at:stop], target[stop - 1]))
    assert sorted(found) == sorted(tuple(items[a:b]) for a, b in itertools.pairwise(offsets))


def test_a_lane_that_ends_takes_the_next_session_in_order():
    items, offsets = np.arange(10, dtype=np.int32), np.array([0, 4, 6, 8, 10])
    plan = plan_lanes(items, offsets, 2)
    assert plan.items[..., 0].T.tolist() == [[0, 1, 2], [4, 6, 8]]
    assert plan.reset[..., 0].T.tolist() == [[True, False, False], [True, True, True]]


def test_sessions_of_one_event_teach_nothing_and_take_no_room():
    plan = plan_lanes(np.array([1, 2, 3, 4]), np.array([0, 1, 3, 4]), lanes=2)
    assert plan.items[plan.mask.any(-1)].tolist() == [[2, 3]]


def test_no_sessions_give_no_blocks():
    assert plan_lanes(np.zeros(0, np.int32), np.zeros(1, np.int64), lanes=3, steps=2).items.shape == (0, 3, 3)
