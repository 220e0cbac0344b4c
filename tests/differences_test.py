"""Differences between models: real ones are seen, chance is not, and more comparisons ask for more."""

import numpy as np
import pytest

from jaxrec.evaluation.differences import differences, holm, p_values

METRIC = ("recall@20",)


def models(seed, gains, users=200):
    """{model: sums by user}: every model shares the users' luck, and adds its gain with luck of its own."""
    generator = np.random.default_rng(seed)
    predictions = generator.integers(1, 20, users).astype(float)
    luck = generator.normal(0.5, 0.3, users)
    own = [luck + gain + generator.normal(0, 0.05, users) for gain in gains]
    return {f"m{number}": {METRIC[0]: predictions * one, "predictions": predictions} for number, one in enumerate(own)}


def test_a_small_difference_between_paired_models_is_real_and_none_is_not():
    found = {(one.first, one.second): one for one in differences(models(0, (0.03, 0.03, 0.0)), METRIC)}
    assert [pair for pair, one in found.items() if one.real] == [("m0", "m2"), ("m1", "m2")]
    for one in found.values():
        assert one.interval[0] < one.value < one.interval[1]
    assert found["m0", "m2"].interval[0] > 0.01, "unpaired, users' luck would hide it"


def test_chance_is_called_real_no_more_often_than_the_level():
    """With one pair the corrected p is that of the test itself: 5 % of worlds without a difference, within what 200 worlds can show."""
    called = [differences(models(seed, (0.0, 0.0), users=40), METRIC, draws=200)[0].real for seed in range(200)]
    assert 0.01 <= np.mean(called) <= 0.09


def test_more_comparisons_ask_for_more():
    sums = models(1, (0.008, 0.0))
    alone = differences(sums, METRIC)[0]
    among = next(one for one in differences(models(1, (0.008, 0.0, 0.0, 0.0, 0.0)), METRIC) if (one.first, one.second) == ("m0", "m1"))
    assert among.p > alone.p


@pytest.mark.parametrize(
    ("p", "expected"),
    [([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]), ([0.9, 0.8], [1.0, 1.0]), ([0.02], [0.02]), ([], [])],
)
def test_holm_by_hand(p, expected):
    assert holm(np.array(p)).tolist() == pytest.approx(expected)


def test_the_same_model_twice_is_no_difference():
    sums = models(0, (0.0,))
    (one,) = differences(sums | {"again": sums["m0"]}, METRIC)
    assert (one.value, one.p, one.real) == (0.0, 1.0, False)


def test_student_s_t_by_hand():
    """Ten users; the error of ten drawn from ten is too small by the root of 9 / 10; |t| = 2.262 is the 5 % point of 9 degrees."""
    (found,) = p_values(np.array([2.262]), np.array([np.sqrt(0.9)]), 10)
    assert found == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize(("clusters", "least"), [(1, 1.0), (2, 0.5), (5, 1 / 16)])
def test_a_few_users_show_no_more_than_their_signs_can(clusters, least):
    assert p_values(np.array([1.0]), np.array([0.0]), clusters).tolist() == [least]


def test_one_model_or_no_prediction_makes_no_difference():
    assert differences(models(0, (0.0,)), METRIC) == []
    assert differences(models(0, (0.0, 1.0), users=0), METRIC) == []
