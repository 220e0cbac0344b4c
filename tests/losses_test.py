"""Losses against NumPy and against what must hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.learning.losses import LOSSES, bpr_max, cross_entropy


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


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def elu(x, scale):
    return np.where(x > 0, x, scale * np.expm1(x)) if scale else x


def in_numpy(name, target, others, bpreg=1.0, elu_param=0.5):
    """The published formulas for one prediction, over the columns that count alone."""
    target, others = np.float64(target), others.astype(np.float64)
    if name == "bpr-max":
        target, others = elu(target, elu_param), elu(others, elu_param)
    shares = np.exp(others) / np.exp(others).sum()
    everything = np.append(others, target)
    ranked, own = sigmoid(everything - target) + sigmoid(everything**2), sigmoid(target**2) / len(everything)
    return {
        "cross-entropy": -np.log(np.exp(target) / np.exp(everything).sum()),
        "bpr-max": -np.log((shares * sigmoid(target - others)).sum()) + bpreg * (shares * others**2).sum(),
        "bpr": -np.log(sigmoid(target - everything)).mean(),
        "top1": ranked.mean() - own,
        "top1-max": (shares * ranked[:-1]).sum(),
    }[name]


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_its_published_formula(name):
    target, others, counts = scores(columns=9)
    found = LOSSES[name](target, others, counts)
    want = [in_numpy(name, target[row], others[row][counts[row]]) for row in range(len(target))]
    np.testing.assert_allclose(found, want, rtol=1e-5)


@pytest.mark.parametrize("elu_param", [0.0, 0.5, 1.0])
def test_bpr_max_is_affine_in_bpreg_with_the_shared_squares_as_slope(elu_param):
    target, others, counts = scores()
    at = [bpr_max(target, others, counts, bpreg, elu_param) for bpreg in (0.0, 1.0, 3.0)]
    chosen = [elu(row[live].astype(np.float64), elu_param) for row, live in zip(others, counts, strict=True)]
    slope = [(np.exp(row) / np.exp(row).sum() * row**2).sum() for row in chosen]
    np.testing.assert_allclose(at[1] - at[0], slope, rtol=1e-4)
    np.testing.assert_allclose(at[2] - at[1], 2 * np.array(slope), rtol=1e-4)
    np.testing.assert_allclose(
        at[1],
        [
            in_numpy("bpr-max", *one, 1.0, elu_param)
            for one in zip(target, [o[c] for o, c in zip(others, counts, strict=True)], strict=True)
        ],
        rtol=1e-5,
    )


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_without_a_negative_a_loss_is_finite_and_moves_nothing(loss):
    value, gradient = jax.value_and_grad(lambda o: loss(jnp.float32(0.5), o, jnp.array([False, False])))(jnp.array([3.0, 1e4]))
    assert np.isfinite(value)
    np.testing.assert_array_equal(gradient, 0.0)


def test_the_target_is_no_share_of_the_softmax_of_bpr_max():
    """Fault 5: with the target among the negatives a high target would push all other shares to zero."""
    others, counts = jnp.array([1.0, 2.0]), jnp.array([True, True])
    gradient = jax.grad(lambda o: bpr_max(jnp.float32(50.0), o, counts, bpreg=1.0, elu_param=0.0))(others)
    shares = np.exp([1.0, 2.0]) / np.exp([1.0, 2.0]).sum()
    squares = (shares * np.array([1.0, 4.0])).sum()
    np.testing.assert_allclose(gradient, shares * (np.array([1.0, 4.0]) - squares) + 2 * shares * np.array([1.0, 2.0]), rtol=1e-5)
