"""Parts of the predictions: by hand, and every prediction in exactly one part of each division."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import dataset_of

from jaxrec.evaluation.groups import by_group, groups, hot_items
from jaxrec.evaluation.metrics import means, merge, metrics, sums
from jaxrec.evaluation.ranks import Ranks

DIVISIONS = (("hot_targets", "cold_targets"), "position_", ("old_users", "new_users"), "own_events_")


def ranks_of(dataset, seed=0):
    """Random ranks of every prediction of the test period."""
    test = dataset.period("test")
    lengths = np.array([len(dataset.session(number)) - 1 for number in test])
    sessions = np.repeat(np.array(test), lengths)
    steps = np.concatenate([np.arange(0), *(np.arange(n) for n in lengths)])
    greater = np.random.default_rng(seed).integers(0, 60, len(sessions))
    return Ranks(sessions, steps, dataset.users[sessions], greater, np.zeros(len(sessions), np.int64))


def test_by_hand():
    """Ten items, two of them hot: 3 (three clicks) and 1 (two). User 0 has five events before the test, user 1 none, the last is nobody."""
    sessions = [[3, 1, 3], [3, 1], [0, 3, 4], [1, 2], [1, 3]]
    dataset = dataset_of(sessions, [0, 0, 0, 1, -1], (1, 2), n_items=10)
    dataset.item_counts[:] = [0, 2, 0, 3, 1, 1, 0, 0, 0, 0]
    found = groups(dataset, ranks_of(dataset))
    assert {name: mask.tolist() for name, mask in found.items() if mask.any()} == {
        "hot_targets": [True, False, False, True],
        "cold_targets": [False, True, True, False],
        "position_1": [True, False, True, True],
        "position_2": [False, True, False, False],
        "old_users": [True, True, False, False],
        "new_users": [False, False, True, False],
        "own_events_0": [False, False, True, False],
        "own_events_5-9": [True, True, False, False],
    }


def test_positions_are_events_read():
    dataset = dataset_of([[0] * 13], None, (0, 0))
    found = groups(dataset, ranks_of(dataset))
    named = [next(name for name, mask in found.items() if name.startswith("position") and mask[step]) for step in range(12)]
    expected = ["1", "2", *["3-4"] * 2, *["5-9"] * 5, *["10+"] * 3]
    assert named == [f"position_{label}" for label in expected]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_the_parts_of_a_division_add_up_to_the_whole(seed, users):
    generator = np.random.default_rng(seed)
    sessions = [generator.integers(0, 30, generator.integers(2, 14)).tolist() for _ in range(20)]
    dataset = dataset_of(sessions, generator.integers(0, 4, 20).tolist() if users else None, (6, 10))
    ranks = ranks_of(dataset, seed)
    found = groups(dataset, ranks)
    for division in DIVISIONS[: 4 if users else 2]:
        parts = [
            ranks.where(found[name]) for name in found if name in division or (isinstance(division, str) and name.startswith(division))
        ]
        assert means(merge(*map(sums, parts))) == pytest.approx(metrics(ranks))
    assert any("user" in name for name in found) == users, "a log without users has no parts of users"


def test_a_part_s_metrics_are_those_of_its_predictions():
    dataset = dataset_of([[1, 2, 1], [2, 1, 2, 2]], [0, 1], (1, 1))
    ranks = ranks_of(dataset)
    found = by_group(dataset, ranks)
    assert found["position_3-4"] == metrics(ranks.where(np.array([2])))
    assert all(one["predictions"] for one in found.values()), "a part without predictions says nothing"


@pytest.mark.parametrize(("items", "hot"), [(1, 1), (5, 1), (6, 2), (10, 2)])
def test_a_fifth_of_the_catalogue_is_hot(items, hot):
    assert np.flatnonzero(hot_items(np.ones(items, int))).tolist() == list(range(hot))
