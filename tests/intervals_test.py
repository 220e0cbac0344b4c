"""Intervals: they hold what is true as often as they claim, keep clusters whole, and pair models that are drawn apart."""

import numpy as np
import pytest

from jaxrec.evaluation import intervals as module
from jaxrec.evaluation.intervals import ci95, cluster_sums, clusters, intervals, resampled
from jaxrec.evaluation.metrics import metrics
from jaxrec.evaluation.ranks import Ranks

TRUE_GAIN = 0.1


def population(seed, users=150):
    """(gain, predictions) of users whose gain per prediction varies around the true one, [users, 1] and [users]."""
    generator = np.random.default_rng(seed)
    predictions = generator.integers(1, 20, users).astype(float)
    return (predictions * generator.normal(TRUE_GAIN, 0.3, users))[:, np.newaxis], predictions


def ranks_of(sessions, users, ranks):
    count = len(ranks)
    return Ranks(np.array(sessions), np.arange(count), np.array(users), np.array(ranks) - 1, np.zeros(count, np.int64))


def test_they_hold_the_true_gain_as_often_as_they_claim():
    found = [intervals(*population(seed), draws=300)[0] for seed in range(100)]
    held = np.mean([low <= TRUE_GAIN <= high for low, high in found])
    assert 0.88 <= held <= 0.99, f"95 % intervals held the true gain in {held:.0%} of 100 worlds"


def test_they_are_of_the_metric_over_all_predictions():
    """A user with many predictions weighs more: the interval lies around the gain of the whole, not around the mean of users' gains."""
    predictions = np.repeat([1.0, 99.0], 200)
    gain = np.where(predictions == 1, 1.0, 0.0)
    ((low, high),) = intervals(gain[:, np.newaxis], predictions, draws=200)
    assert low < 200 / predictions.sum() < high < 0.02


def test_a_cluster_s_predictions_stay_together():
    """Ten copies of every prediction say nothing new, so the interval stays; drawing single predictions would make it narrower."""
    gain, predictions = population(0)
    np.testing.assert_allclose(intervals(10 * gain, 10 * predictions, draws=100), intervals(gain, predictions, draws=100))


def test_draws_are_those_of_a_loop_over_drawn_clusters(monkeypatch):
    gain, predictions = population(3, users=7)
    generator, expected = np.random.default_rng(5), []
    for _ in range(11):
        drawn = generator.integers(0, 7, 7)
        expected.append(gain[drawn].sum(0) / predictions[drawn].sum())
    for at_once in (1, 30, 10**6):
        monkeypatch.setattr(module, "COUNTS_AT_ONCE", at_once)
        np.testing.assert_allclose(resampled(gain, predictions, seed=5, draws=11), expected)


def test_models_that_are_drawn_apart_are_paired():
    (one, predictions), (other, _) = population(1), population(2)
    apart = resampled(one, predictions, draws=50) - resampled(other, predictions, draws=50)
    np.testing.assert_allclose(apart, resampled(one - other, predictions, draws=50))


def test_the_same_seed_gives_the_same_interval():
    first, again, other = (intervals(*population(1), seed=seed, draws=50).tolist() for seed in (3, 3, 4))
    assert first == again != other


def test_no_change_is_an_interval_of_zero():
    gain, predictions = population(2)
    assert intervals(0 * gain, predictions).tolist() == [[0.0, 0.0]]


def test_without_clusters_intervals_are_zero():
    assert intervals(np.zeros((0, 2)), np.zeros(0)).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert ci95(cluster_sums(ranks_of([], [], [])))["recall@20"] == [0.0, 0.0]


def test_many_clusters_put_together_give_intervals_as_wide(monkeypatch):
    gain, predictions = population(0, users=20_000)
    ((low, high),) = intervals(gain, predictions, draws=400)
    monkeypatch.setattr(module, "MOST_CLUSTERS", 1_000)
    ((low_together, high_together),) = intervals(gain, predictions, draws=400)
    assert high_together - low_together == pytest.approx(high - low, rel=0.2)
    assert (low_together + high_together) / 2 == pytest.approx((low + high) / 2, abs=(high - low) / 4)


def test_a_cluster_is_a_user_or_a_session_without_one():
    sessions, users = [4, 4, 5, 6, 7], [5, 5, -1, 5, -1]
    found = clusters(ranks_of(sessions, users, [1] * 5))
    assert len(set(found)) == found.max() + 1 == 3
    assert found[0] == found[1] == found[3] and len({found[0], found[2], found[4]}) == 3


def test_every_metric_has_an_interval_around_it():
    generator = np.random.default_rng(0)
    ranks = ranks_of(np.repeat(np.arange(200), 3), [-1] * 600, generator.integers(1, 60, 600))
    whole, found = metrics(ranks), ci95(cluster_sums(ranks))
    assert found.keys() == whole.keys() - {"predictions"}
    assert all(low < whole[name] < high for name, (low, high) in found.items())
