"""The softmax over all items in chunks is the softmax over all items at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrec.learning import full_softmax
from jaxrec.learning.full_softmax import log_sum_exp


@pytest.mark.parametrize("items", [1, 5, 8, 16, 21])
def test_values_and_gradients_are_those_of_all_scores_at_once(items, monkeypatch):
    monkeypatch.setattr(full_softmax, "CHUNK", 8)
    generator = np.random.default_rng(items)
    given = tuple(generator.normal(size=shape).astype("f") for shape in ((6, 3), (items, 3), (items,)))
    weights = generator.normal(size=6).astype("f")

    def whole(vectors, table, bias):
        return (weights * jax.nn.logsumexp(vectors @ table.T + bias[None], -1)).sum()

    want, by_want = jax.value_and_grad(whole, (0, 1, 2))(*given)
    found, by_found = jax.value_and_grad(lambda *given: (weights * log_sum_exp(*given)).sum(), (0, 1, 2))(*given)
    np.testing.assert_allclose(found, want, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), by_found, by_want)


def test_large_scores_stay_finite():
    value, gradient = jax.value_and_grad(lambda v: log_sum_exp(v, jnp.array([[1e4], [-1e4]]), jnp.zeros(2)).sum())(jnp.ones((1, 1)))
    assert value == 1e4 and np.isfinite(gradient).all()


def test_no_array_of_predictions_by_items_is_made():
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((256, 8), (200_000, 8), (200_000,))]
    lowered = jax.jit(jax.grad(lambda *given: log_sum_exp(*given).sum(), (0, 1, 2))).lower(*shapes).compile()
    assert lowered.memory_analysis().temp_size_in_bytes < 256 * 200_000 * 4 / 4
