"""The cell against NumPy, and states over sessions."""

import dataclasses
from functools import partial

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


def test_sequences_side_by_side_are_those_one_by_one():
    model, params = small_model(units=(6, 4))
    params, generator, shape = with_biases(params), np.random.default_rng(0), (5, 3)
    inputs, reset = generator.normal(size=(*shape, 5)).astype("f"), generator.random(shape) < 0.3
    hidden = tuple(generator.normal(size=(3, units)).astype("f") for units in (6, 4))
    keep = tuple((generator.random((*shape, units)) < 0.6).astype("f") for units in (6, 4))
    together = model.encode(params, inputs, hidden, reset, keep)
    for row in range(3):
        state, kept = ([part[..., row, :] for part in parts] for parts in (hidden, keep))
        alone = model.encode(params, inputs[:, row], tuple(state), reset[:, row], tuple(kept))
        jax.tree.map(lambda part, one, row=row: np.testing.assert_allclose(part[..., row, :], one, atol=1e-6), together, alone)


def plain(parts, inputs, hidden, reset, keep):
    """Outputs of one layer, step by step, as JAX differentiates it."""
    outputs, units = [], hidden.shape[-1]
    for x, starts, kept in zip(inputs, reset, keep, strict=True):
        hidden = jnp.where(starts, 0.0, hidden)
        a, d = (x @ parts["w_in"] if "w_in" in parts else x) + parts["b_in"], hidden @ parts["w_hidden"] + parts["b_hidden"]
        r, z = jax.nn.sigmoid(a[:units] + d[:units]), jax.nn.sigmoid(a[units : 2 * units] + d[units : 2 * units])
        hidden = ((1 - z) * jnp.tanh(a[2 * units :] + r * d[2 * units :]) + z * hidden) * kept
        outputs.append(hidden)
    return jnp.stack(outputs)


@pytest.mark.parametrize("table", ["shared", pytest.param("one-hot", marks=pytest.mark.long)])
@pytest.mark.parametrize("unroll", [False, True], ids=["looped", "unrolled"])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("dropped", [False, True], ids=["all kept", "dropout"])
def test_gradients_are_those_of_the_equations(steps, dropped, unroll, table):
    """By parameters, inputs and the state before, of many sequences at once."""
    model, params = small_model(units=(6,), dense=False, table=table)
    model, parts = dataclasses.replace(model, unroll=unroll), with_biases(params)["last"]
    generator, rows = np.random.default_rng(2), 3
    width = 6 if "w_in" in parts else 18
    inputs, hidden = generator.normal(size=(rows, steps, width)).astype("f"), generator.normal(size=(rows, 6)).astype("f")
    weights, reset = generator.normal(size=(rows, steps + 1, 6)).astype("f"), generator.random((rows, steps)) < 0.3
    keep = (generator.random((rows, steps, 6)) < 0.6).astype("f") / np.float32(0.6)

    def ours(parts, inputs, hidden):
        by_step = [jnp.swapaxes(part, 0, 1) for part in (inputs, reset, keep, weights)]
        outputs, (last,) = model.encode({"last": parts}, by_step[0], (hidden,), by_step[1], (by_step[2],) if dropped else None)
        return (jnp.concatenate([outputs, last[None]]) * by_step[3]).sum()

    def theirs(parts, inputs, hidden):
        found = [plain(parts, *row) for row in zip(inputs, hidden, reset, keep if dropped else np.ones_like(keep), strict=True)]
        return sum((jnp.concatenate([one, one[-1:]]) * weight).sum() for one, weight in zip(found, weights, strict=True))

    found, expected = (jax.value_and_grad(one, (0, 1, 2))(parts, inputs, hidden) for one in (ours, theirs))
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-4), found, expected)


def test_matrices_start_uniform_by_the_shape_of_each_gate_and_biases_zero():
    _, params = small_model(units=(50,))
    bound = np.sqrt(6 / (5 + 50))
    largest = np.abs(params["last"]["w_in"]).max()
    assert 0.98 * bound < largest <= bound
    assert not params["last"]["b_in"].any() and not params["item_bias"].any()
    assert uniform(jax.random.key(0), 4, 3, blocks=3).shape == (4, 9)
