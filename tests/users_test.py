"""Two models user by user: sums add up, shares add to one, a sure gain is seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrec.evaluation.metrics import metrics, sums
from jaxrec.evaluation.ranks import TIES, Ranks
from jaxrec.evaluation.users import better_same_worse, by_user, gains

PREDICTIONS = st.lists(st.tuples(st.sampled_from([2, 5, 9]), st.integers(1, 30), st.integers(0, 4)), min_size=1, max_size=40)


def ranks_of(predictions):
    """Ranks of (user, standard rank, other items of the same score)."""
    users, ranks, equal = (np.array(column, np.int64) for column in zip(*predictions, strict=True))
    return Ranks(users, np.arange(len(users)), users, ranks - 1, equal)


@given(PREDICTIONS, st.sampled_from(TIES))
def test_sums_of_users_add_up_to_the_whole(predictions, ties):
    ranks = ranks_of(predictions)
    found = by_user(ranks, np.unique(ranks.users), ties)
    assert {name: float(value.sum()) for name, value in found.items()} == pytest.approx(sums(ranks, ties))


@given(PREDICTIONS)
def test_a_user_s_sums_are_those_of_the_own_predictions(predictions):
    ranks, users = ranks_of(predictions), np.array([2, 5, 9])
    found = by_user(ranks, users)
    for place, user in enumerate(users):
        own = [one for one in predictions if one[0] == user]
        expected = sums(ranks_of(own)) if own else dict.fromkeys(found, 0.0)
        assert {name: value[place] for name, value in found.items()} == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
def test_every_user_is_better_the_same_or_worse(pairs):
    before, after = np.array(pairs, float).T
    shares = better_same_worse(before, after)
    assert sum(shares) == pytest.approx(1.0)
    assert shares == tuple(pytest.approx(sum(test(b, a) for b, a in pairs) / len(pairs)) for test in (int.__lt__, int.__eq__, int.__gt__))
    assert better_same_worse(after, before) == shares[::-1]


def test_a_model_that_ranks_everything_higher_gains_surely():
    generator = np.random.default_rng(0)
    users, after = generator.integers(0, 50, 400), generator.integers(1, 25, 400)
    worse, better = (ranks_of([(user, rank, 0) for user, rank in zip(users, ranks, strict=True)]) for ranks in (after + 8, after))
    before, now = (by_user(one, np.unique(users)) for one in (worse, better))
    found = gains(before, now)
    assert found.keys() == {"recall@20", "mrr@20"}
    for name, (low, high) in found.items():
        assert 0 < low < metrics(better)[name] - metrics(worse)[name] < high
    assert [-high for high in gains(now, before)["mrr@20"]] == pytest.approx(found["mrr@20"][::-1])
