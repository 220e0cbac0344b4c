"""The cell against NumPy, and states over sessions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from world import small_model

from jaxrec.models.gru import uniform


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_gru(layer, inputs):
    """States of a whole session, by the equations of the paper."""
    w, u, b, c = (np.asarray(layer[name], np.float64) for name in ("w_in", "w_hidden", "b_in", "b_hidden"))
    units = len(u)
    hidden, states = np.zeros(units), []
    for x in inputs:
        a, d = x @ w + b, hidden @ u + c
        r, z = sigmoid(a[:units] + d[:units]), sigmoid(a[units : 2 * units] + d[units : 2 * units])
        n = np.tanh(a[2 * units :] + r * d[2 * units :])
        hidden = (1 - z) * n + z * hidden
        states.append(hidden)
    return np.array(states)


def with_biases(params):
    """Biases drawn too: at zero a missing one would not show."""
    generator = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=leaf.shape).astype("f") * 0.5), params)


@pytest.mark.parametrize("steps", [3, 20])
def test_vectors_are_those_of_the_equations(steps):
    model, params = small_model()
    params = with_biases(params)
    inputs = np.random.default_rng(0).normal(size=(steps, 5)).astype("f")
    vectors, (last,) = model.encode(params, inputs, model.zero_hidden(), jnp.arange(steps) == 0)
    states = numpy_gru(params["last"], inputs)
    np.testing.assert_allclose(last, states[-1], atol=1e-5)
    np.testing.assert_allclose(vectors, states @ np.asarray(params["dense"]["kernel"]) + np.asarray(params["dense"]["bias"]), atol=1e-5)


def test_a_reset_starts_as_if_nothing_had_been():
    model, params = small_model(units=(6, 4))
    params = with_biases(params)
    inputs = np.random.default_rng(0).normal(size=(7, 5)).astype("f")
    reset = np.array([True, False, False, True, False, False, False])
    vectors, _ = model.encode(params, inputs, model.zero_hidden(), reset)
    alone, _ = model.encode(params, inputs[3:], model.zero_hidden(), reset[3:])
    np.testing.assert_allclose(vectors[3:], alone, atol=1e-6)


def test_a_session_in_two_pieces_that_carry_the_state_is_the_whole():
    model, params = small_model(units=(6, 4), dense=False)
    inputs = np.random.default_rng(0).normal(size=(9, 4)).astype("f")
    start = np.arange(9) == 0
    whole, _ = model.encode(params, inputs, model.zero_hidden(), start)
    first, hidden = model.encode(params, inputs[:4], model.zero_hidden(), start[:4])
    second, _ = model.encode(params, inputs[4:], hidden, start[4:])
    np.testing.assert_allclose(np.concatenate([first, second]), whole, atol=1e-6)


def test_the_dropped_output_is_what_is_carried_on():
    model, params = small_model(dense=False)
    inputs = np.ones((2, 6), np.float32)
    keep = (jnp.zeros((2, 6)).at[1].set(1.0),)  # everything dropped at the first step
    _, (last,) = model.encode(params, inputs, model.zero_hidden(), np.zeros(2, bool), keep)
    _, (fresh,) = model.encode(params, inputs[:1], model.zero_hidden(), np.zeros(1, bool))
    np.testing.assert_allclose(last, fresh, atol=1e-6)


def test_matrices_start_uniform_by_the_shape_of_each_gate_and_biases_zero():
    _, params = small_model(units=(50,))
    bound = np.sqrt(6 / (5 + 50))
    largest = np.abs(params["last"]["w_in"]).max()
    assert 0.98 * bound < largest <= bound
    assert not params["last"]["b_in"].any() and not params["item_bias"].any()
    assert uniform(jax.random.key(0), 4, 3, blocks=3).shape == (4, 9)
