"""Losses against NumPy and against what must hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.learning.losses import LOSSES, cross_entropy


def scores(seed=0, rows=4, columns=6):
    generator = np.random.default_rng(seed)
    return (
        generator.normal(size=rows).astype("f"),
        generator.normal(size=(rows, columns)).astype("f"),
        generator.random((rows, columns)) < 0.7,
    )


def test_cross_entropy_is_numpy_softmax_over_target_and_columns():
    target, others, counts = scores()
    found = np.asarray(cross_entropy(target, others, counts))
    for row in range(len(target)):
        columns = np.concatenate([[target[row]], others[row][counts[row]]]).astype(np.float64)
        assert found[row] == pytest.approx(-np.log(np.exp(columns[0]) / np.exp(columns).sum()), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_column_that_does_not_count_is_absent(loss):
    target, others, counts = scores()
    changed = np.where(counts, others, others + 100)
    np.testing.assert_array_equal(loss(target, others, counts), loss(target, changed, counts))


def test_adding_a_constant_to_all_scores_changes_nothing():
    target, others, counts = scores()
    np.testing.assert_allclose(cross_entropy(target + 3, others + 3, counts), cross_entropy(target, others, counts), rtol=1e-5)


def test_gradient_is_probability_minus_one_hot():
    target, others, counts = scores(rows=1)
    by_target, by_others = jax.grad(lambda t, o: cross_entropy(t, o, jnp.asarray(counts)).sum(), (0, 1))(
        jnp.asarray(target), jnp.asarray(others)
    )
    weights = np.exp(others[0]) * counts[0]
    total = np.exp(target[0]) + weights.sum()
    np.testing.assert_allclose(by_target, np.exp(target) / total - 1, rtol=1e-5)
    np.testing.assert_allclose(by_others[0], weights / total, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_large_scores_stay_finite(loss):
    value, gradient = jax.value_and_grad(lambda t: loss(t, jnp.array([-1e4, 1e4]), jnp.array([True, True])))(jnp.float32(-1e4))
    assert np.isfinite(value) and np.isfinite(gradient)
