"""Laws of session-parallel lanes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import random_sessions

from jaxrec.data.lanes import plan_lanes


def pairs_of(items, offsets):
    return [(items[i], items[i + 1]) for a, b in itertools.pairwise(offsets) for i in range(a, b - 1)]


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
