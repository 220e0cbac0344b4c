"""Laws of users' blocks: what a user learns from is the user's own, whoever else is asked for, and padding stays small."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import N_ITEMS, dataset_of

from jaxrec.data import user_blocks
from jaxrec.data.blocks import round_up
from jaxrec.data.dataset import Dataset
from jaxrec.data.lanes import plan_lanes
from jaxrec.data.user_blocks import joined, knowing, plan_users, user_events, users_of

N_USERS = 6
WORLDS = st.lists(st.tuples(st.integers(-1, N_USERS - 1), st.integers(1, 9)), min_size=1, max_size=40)
"""(user, number of events) of every session."""
SHAPES = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 4),
        "steps": st.integers(1, 6),
        "holdout_fraction": st.sampled_from([0.0, 0.25, 0.5, 0.9]),
        "users_at_once": st.integers(1, 4),
    }
)
DEFAULTS = {"rows": 4, "steps": 8, "holdout_fraction": 0.25, "users_at_once": 256}


@pytest.fixture(autouse=True, scope="module")
def every_shape_is_kept():
    """Few users never save as much padding as a shape costs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_blocks, "STEPS_OF_A_SHAPE", 0)
        yield


def world_of(sessions):
    """A dataset in which every event is an item of its own."""
    event = itertools.count(1)
    lists = [[next(event) for _ in range(length)] for _, length in sessions]
    return dataset_of(lists, [user for user, _ in sessions], n_items=sum(length for _, length in sessions) + 1)


def population(lengths, seed=0):
    """A dataset of users in random order of sessions: lengths[u] are the lengths of the sessions of user u."""
    own = np.repeat(np.arange(len(lengths)), [len(one) for one in lengths])
    order = np.random.default_rng(seed).permutation(len(own))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths)[order])])
    items = np.arange(offsets[-1], dtype=np.int32)
    counts = np.zeros(len(items), np.int64)
    return Dataset(items, items.astype(np.int64), offsets, own[order].astype(np.int32), (0, 0, 0, len(own)), counts, len(lengths))


def own_sessions(dataset, user, first, before):
    """The slow twin: sessions of the user that have a pair."""
    return [dataset.session(s) for s in range(first, before) if dataset.users[s] == user and len(dataset.session(s)) > 1]


def pairs_of(sessions):
    return Counter(pair for one in sessions for pair in itertools.pairwise(one.tolist()))


def by_user(dataset, plan):
    """{user: (blocks, late)} of all chunks; every user once, padding users empty and last."""
    found = {}
    for chunk in range(len(plan)):
        events, shape = user_events(dataset, plan, chunk), plan.chunks[chunk].shape
        assert events.late.shape == events.blocks.mask.shape == events.blocks.reset.shape == shape
        assert events.blocks.items.shape == (*shape[:3], shape.steps + 1)
        users = users_of(plan, chunk)
        assert events.user.tolist() == users.tolist() + [-1] * (shape.users - len(users))
        assert not any(part[len(users) :].any() for part in (*events.blocks, events.late))
        for i, user in enumerate(users.tolist()):
            assert user not in found
            found[user] = type(events.blocks)(*(part[i] for part in events.blocks)), events.late[i]
    return found


def parts_of(events):
    return events.user, *events.blocks, events.late


def planned_pairs(blocks, where):
    return Counter(zip(blocks.items[..., :-1][where].tolist(), blocks.items[..., 1:][where].tolist(), strict=True))


def updates(blocks, late):
    """What each update learns from: its predictions in no order, [(item, next item, whether a session starts, whether late), ...]."""
    parts = blocks.items[..., :-1], blocks.items[..., 1:], blocks.reset, late
    return [sorted(zip(*(part[i][live].tolist() for part in parts), strict=True)) for i, live in enumerate(blocks.mask) if live.any()]


@settings(max_examples=200, deadline=None)
@given(WORLDS, SHAPES, st.data())
def test_a_user_has_every_own_pair_once_and_the_last_sessions_are_late(sessions, how, data):
    dataset = world_of(sessions)
    first = data.draw(st.integers(0, len(sessions)))
    before = data.draw(st.integers(first, len(sessions)))
    users = data.draw(st.permutations(range(-1, dataset.n_users)))
    found = by_user(dataset, plan_users(dataset, users, first, before, **how))
    expected = {user: own for user in range(dataset.n_users) if (own := own_sessions(dataset, user, first, before))}
    assert found.keys() == expected.keys()
    for user, own in expected.items():
        held = min(max(1, round(len(own) * how["holdout_fraction"])), len(own) - 1) if how["holdout_fraction"] else 0
        blocks, late = found[user]
        assert planned_pairs(blocks, blocks.mask) == pairs_of(own)
        assert planned_pairs(blocks, late) == pairs_of(own[len(own) - held :])
        assert not (late & ~blocks.mask).any()


@settings(max_examples=200, deadline=None)
@given(WORLDS, SHAPES)
def test_blocks_are_the_lanes_of_the_users_own_sessions(sessions, how):
    dataset = world_of(sessions)
    for user, (blocks, _) in by_user(dataset, plan_users(dataset, range(dataset.n_users), 0, len(sessions), **how)).items():
        own = own_sessions(dataset, user, 0, len(sessions))
        rows, steps = blocks.mask.shape[1:]
        plan = plan_lanes(np.concatenate(own), np.cumsum([0, *map(len, own)]), rows, steps)
        full = plan_lanes(np.concatenate(own), np.cumsum([0, *map(len, own)]), how["rows"], how["steps"])
        assert (rows, steps) == (how["rows"], how["steps"]) or len(full.items) == len(blocks.items) == 1
        for part, expected in zip(blocks, plan, strict=True):
            np.testing.assert_array_equal(part[: len(expected)], expected)
            assert not part[len(expected) :].any()


@settings(max_examples=100, deadline=None)
@given(WORLDS, SHAPES, st.sets(st.integers(0, N_USERS - 1)), st.integers(1, 3))
def test_a_users_updates_do_not_depend_on_other_users(sessions, how, asked, shapes):
    dataset = world_of(sessions)
    among_all = by_user(dataset, plan_users(dataset, range(dataset.n_users), 0, len(sessions), **how, most_shapes=shapes))
    asked &= among_all.keys()
    among_few = by_user(dataset, plan_users(dataset, sorted(asked), 0, len(sessions), **how, most_shapes=shapes))
    assert among_few.keys() == asked
    assert all(updates(*among_few[user]) == updates(*among_all[user]) for user in asked)


@settings(max_examples=100, deadline=None)
@given(WORLDS, SHAPES, st.integers(0, 3))
def test_chunks_as_one_teach_the_same(sessions, how, padding):
    dataset = world_of(sessions)
    plan = plan_users(dataset, range(dataset.n_users), 0, len(sessions), **how)
    if not len(plan):
        return
    parts = [user_events(dataset, plan, chunk) for chunk in range(len(plan))]
    whole = joined(parts, len(plan.users) + padding)
    assert whole.user.tolist() == plan.users.tolist() + [-1] * padding
    assert whole.late.shape == whole.blocks.mask.shape and whole.late.shape[1] == round_up(whole.late.shape[1])
    expected = by_user(dataset, plan)
    for i, user in enumerate(whole.user.tolist()):
        blocks, late = (type(whole.blocks)(*(part[i] for part in whole.blocks)), whole.late[i])
        assert updates(blocks, late) == (updates(*expected[user]) if user >= 0 else [])
    with pytest.raises(ValueError, match="width: expected at least"):
        joined(parts, len(plan.users) - 1)


def test_by_hand():
    dataset = dataset_of([[1, 2, 3], [4, 5], [6], [7, 8]], [0, 0, 0, -1])
    plan = plan_users(dataset, [-1, 0], 0, 4, rows=2, steps=3, holdout_fraction=0.25, users_at_once=8)
    (events,) = (user_events(dataset, plan, chunk) for chunk in range(len(plan)))
    assert events.user.tolist() == [0]
    assert events.blocks.items.tolist() == [[[[1, 2, 3, 0], [4, 5, 0, 0]]]]
    assert events.blocks.mask.tolist() == [[[[True, True, False], [True, False, False]]]]
    assert events.blocks.reset.tolist() == [[[[True, False, False], [True, False, False]]]]
    assert events.late.tolist() == [[[[False, False, False], [True, False, False]]]]
    assert plan.account == (1, 1, 5, 6, pytest.approx(1 / 6))


def test_devices_know_candidates_and_their_own_items_each_once():
    dataset = dataset_of([[3, 1, 3], [5, 2], [7, 9], [6, 3]], [0, 1, 0, 0], (4, 4))
    plan = plan_users(dataset, range(2), 0, 4, 1, 2, 0.0, 4, late_from=3, most_shapes=1)
    lists, shares = np.array([[8, 1, -1], [4, 0, 2]], np.int32), np.arange(N_ITEMS) / np.arange(N_ITEMS).sum()
    (events,) = (user_events(dataset, plan, chunk) for chunk in range(len(plan)))
    place = {int(user): row for row, user in enumerate(events.user)}
    knows = knowing(events, lists, (np.array([place[0], place[0]]), np.array([11, 1])), shares)
    known = {user: knows.known.items[row][knows.known.items[row] >= 0].tolist() for user, row in place.items() if user >= 0}
    assert known == {0: [1, 3, 7, 8, 9, 11], 1: [0, 2, 4, 5]}, "neither what is held out nor what fills blocks up"
    for user, row in place.items():
        if user >= 0:
            assert knows.known.items[row, -1] == max(known[user])
            np.testing.assert_allclose(knows.known.until[row, -len(known[user]) :], np.cumsum(shares[known[user]]), rtol=1e-6)
            assert not knows.known.until[row, : -len(known[user])].any()


def test_a_chunk_alone_is_that_of_a_full_pass():
    dataset = population([[3] * (1 + user % 9) for user in range(100)])
    first, again = (plan_users(dataset, range(100), 0, dataset.n_sessions, **DEFAULTS | {"users_at_once": 8}) for _ in range(2))
    assert first.chunks == again.chunks
    every = [user_events(dataset, first, chunk) for chunk in range(len(first))]
    for chunk in reversed(range(len(again))):
        alone = user_events(dataset, again, chunk)
        for part, expected in zip(parts_of(alone), parts_of(every[chunk]), strict=True):
            np.testing.assert_array_equal(part, expected)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 20)), min_size=1, max_size=8), st.integers(1, 4), st.integers(0, 30))
def test_the_shapes_kept_are_the_best_of_all_choices(grows, most, price):
    sizes, counts = np.cumsum([step for step, _ in grows]), np.array([count for _, count in grows])

    def cost(kept):
        return int(sizes[kept][np.searchsorted(kept, np.arange(len(sizes)))] @ counts) + price * len(kept)

    choices = [np.array(c) for n in range(1, most + 1) for c in itertools.combinations(range(len(sizes)), n) if len(sizes) - 1 in c]
    kept = user_blocks._cheapest(sizes, counts, most, price)
    assert len(kept) <= most and kept[-1] == len(sizes) - 1
    assert cost(kept) == min(map(cost, choices))


@pytest.mark.parametrize(("log_sessions", "spread", "users_at_once", "most"), [(3, 0.5, 256, 0.25), (3, 0.5, 7, 0.25), (3, 1, 256, 0.3)])
def test_users_of_log_normal_sizes_take_few_shapes_and_little_padding(log_sessions, spread, users_at_once, most):
    generator = np.random.default_rng(0)
    numbers = np.maximum(1, generator.lognormal(log_sessions, spread, 4000)).astype(int)
    lengths = [2 + generator.geometric(0.3, number) for number in numbers]
    dataset = population(lengths)
    plan = plan_users(dataset, range(4000), 0, dataset.n_sessions, **DEFAULTS | {"users_at_once": users_at_once})
    shapes = [chunk.shape for chunk in plan.chunks]
    assert len(set(shapes)) == plan.account.shapes == len({shape[1:] for shape in shapes}) <= 8, "one width for all chunks of a shape"
    assert max(shape.users for shape in shapes) <= users_at_once
    assert sum(shape.users for shape in shapes) - 4000 < len(shapes)
    assert plan.account.users == 4000
    assert plan.account.steps_read == sum(map(sum, lengths))
    assert plan.account.steps == sum(user_events(dataset, plan, chunk).late.size for chunk in range(len(plan)))
    assert plan.account.padding == 1 - plan.account.steps_read / plan.account.steps <= most


def test_a_heavy_user_costs_the_others_nothing():
    dataset = population([[10] * 1000, *([5, 5, 5] for _ in range(200))])
    plan = plan_users(dataset, range(201), 0, dataset.n_sessions, **DEFAULTS | {"users_at_once": 4})
    assert [chunk.shape for chunk in plan.chunks] == [(4, 1, 3, 8)] * 50 + [(1, 313, 4, 8)]
    assert plan.account.padding < 0.15


def test_chunks_of_heavy_users_are_narrow():
    dataset = population([[9] * 4 * 100] * 7)
    plan = plan_users(dataset, range(7), 0, dataset.n_sessions, **DEFAULTS | {"users_at_once": 4})
    assert [chunk.shape.users for chunk in plan.chunks] == [2, 2, 2, 2]
    assert all(chunk.shape.users * chunk.shape.blocks <= 4 * user_blocks.BLOCKS_OF_A_USER for chunk in plan.chunks)


@pytest.mark.parametrize("users", [[], [-1], [1]])
def test_without_pairs_there_are_no_chunks(users):
    dataset = dataset_of([[1, 2], [3], [4, 5]], [0, 1, -1])
    plan = plan_users(dataset, users, 0, 3, **DEFAULTS)
    assert len(plan) == 0 and plan.account == (0, 0, 0, 0, 0.0)


def test_what_is_held_out_may_be_said_by_session():
    dataset = dataset_of([[1, 2], [3, 4], [5, 6], [7, 8]], [0, 1, 0, 1], (4, 4))
    plan = plan_users(dataset, [0, 1], 0, 4, 2, 4, 0.0, 8, late_from=3)
    found = {user: planned_pairs(blocks, late) for user, (blocks, late) in by_user(dataset, plan).items()}
    assert found == {0: Counter(), 1: Counter([(7, 8)])}
