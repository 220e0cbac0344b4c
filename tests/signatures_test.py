"""What the device runs, in JAX: against formulas and against the model as training and evaluation use it."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from device_world import ITEMS, MODELS, OFFSETS, OPTIONS, RULES, functions, random_block, random_model

from jaxrec.data.blocks import Block
from jaxrec.device.signatures import ExportOptions, ship, signatures
from jaxrec.errors import InputError
from jaxrec.learning.negatives import Negatives
from jaxrec.learning.step import init_state, step
from jaxrec.models.recommender import bytes_of

NONE = np.zeros(OPTIONS.candidates, np.float32)


def ids(*items):
    return np.array(items, np.int32)


def vector_after(name, events):
    """User vector by the model as evaluation runs it."""
    model, params = random_model(name)
    rows = jnp.asarray(params[model.input_table])[jnp.array(events)]
    return np.asarray(model.encode(params, rows, model.zero_hidden(), jnp.zeros(len(events), bool))[0][-1])


def recommend(name, context, length, candidates, bonus=NONE, precision="float32"):
    _, personal = (model := random_model(name))[0].split(model[1])
    return functions(name, precision)["recommend"](
        personal=personal, context=context, length=np.int32(length), candidates=candidates, bonus=bonus
    )


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_rows_times_user_vector_plus_bias_plus_history(name):
    _, params = random_model(name)
    candidates, bonus = ids(4, 9, 1, 22, 17, 3), np.array([0, 2, 0, 1.5, -1, 0], np.float32)
    found = recommend(name, ids(5, 6, 29, 29), 2, candidates, bonus)
    vector = vector_after(name, [5, 6])
    scores = params["item_table"][candidates] @ vector + params["item_bias"][candidates] + bonus
    best = np.argsort(-scores)[:3]
    np.testing.assert_allclose(found["user_vector"], vector, atol=1e-6)
    np.testing.assert_array_equal(found["items"], candidates[best])
    np.testing.assert_allclose(found["scores"], scores[best], atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_what_stands_behind_the_length_does_not_matter(name):
    same = [recommend(name, ids(5, 6, *rest), 2, ids(0, 1, 2, 3, 4, 5))["scores"] for rest in ((0, 0), (7, 8), (-1, 99))]
    np.testing.assert_array_equal(same[0], same[1])
    np.testing.assert_array_equal(same[0], same[2])


def test_without_events_the_head_of_the_zero_state_ranks():
    _, params = random_model("dense")
    np.testing.assert_allclose(recommend("dense", ids(1, 2, 3, 4), 0, ids(0, 1, 2, 3, 4, 5))["user_vector"], params["dense"]["bias"])
    np.testing.assert_array_equal(recommend("no head", ids(1, 2, 3, 4), 0, ids(0, 1, 2, 3, 4, 5))["user_vector"], np.zeros(8))


def test_padding_and_unknown_items_are_never_returned():
    found = recommend("dense", ids(1, 2, 3, 4), 4, ids(-1, 7, ITEMS, -1, 8, -5), np.full(6, 1e6, np.float32))
    assert set(np.asarray(found["items"]).tolist()) == {7, 8, -1}
    assert found["items"][2] == -1
    assert found["scores"][2] < -1e20


def test_equal_scores_keep_the_order_of_the_candidates():
    found = recommend("dense", ids(1, 2, 3, 4), 4, ids(6, 6, 6, 6, 6, 6))
    np.testing.assert_array_equal(found["items"], [6, 6, 6])
    model, params = random_model("dense")
    tied = {**params, "item_table": np.zeros_like(params["item_table"]), "item_bias": np.zeros_like(params["item_bias"])}
    shipped, personal = ship(model, tied, OFFSETS, RULES["dense"], "float32")
    entry = signatures(shipped, personal, OPTIONS)[0]
    found = entry.function(**{**entry.example, "candidates": jnp.array(ids(9, 2, 7, 1, 3, 0))})
    np.testing.assert_array_equal(found["items"], [9, 2, 7])


@pytest.mark.parametrize("precision", ("float32", "float16", "int8"))
def test_the_catalogue_is_ranked_as_candidates_are(precision):
    _, personal = (model := random_model("layers"))[0].split(model[1])
    bonus = np.arange(ITEMS, dtype=np.float32) % 4
    of_all = functions("layers", precision)["recommend_all"](personal=personal, context=ids(3, 1, 4, 0), length=np.int32(3), bonus=bonus)
    best = np.asarray(of_all["items"])
    some = np.concatenate([best[::-1], np.setdiff1d(np.arange(ITEMS), best)[:3]]).astype(np.int32)
    found = recommend("layers", ids(3, 1, 4, 0), 3, some, bonus[some], precision)
    np.testing.assert_array_equal(found["items"], best)
    np.testing.assert_allclose(found["scores"], of_all["scores"], atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_clicks_one_by_one_are_the_context_at_once(name):
    model, params = random_model(name)
    click, hidden = functions(name)["step"], model.zero_hidden()
    for item in (5, 6, 7):
        after = click(personal=model.split(params)[1], hidden=hidden, item=np.int32(item))
        hidden = after["hidden"]
    np.testing.assert_allclose(after["user_vector"], vector_after(name, [5, 6, 7]), atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_learning_is_the_projects_step(name):
    model, params = random_model(name)
    shared, personal = model.split(params)
    items, mask, negatives = random_block(np.random.default_rng(1))
    state = init_state(RULES[name], personal)
    learn = functions(name)["train"]
    got = learn(personal=personal, optimizer=state.optimizer, items=items, mask=mask, negatives=negatives, learning_rate=np.float32(0.1))
    reset = np.arange(3) == np.zeros((2, 1))
    against = Negatives(negatives, jnp.asarray(OFFSETS)[negatives], jnp.zeros((2, 3)))
    shared = jax.tree.map(jnp.asarray, shared)
    learn = jax.jit(partial(step, model, RULES[name]), compiler_options={"xla_backend_optimization_level": 0})
    state, _, loss = learn(shared, state, Block(items, mask, reset), model.zero_hidden(2), against, jnp.float32(0.1))
    want = state.dense, state.optimizer, loss
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), (got["personal"], got["optimizer"], got["loss"]), want)


def test_a_block_without_predictions_changes_nothing():
    model, params = random_model("dense")
    personal = model.split(params)[1]
    items, mask, negatives = random_block(np.random.default_rng(1))
    state = init_state(RULES["dense"], personal).optimizer
    got = functions("dense")["train"](
        personal=personal, optimizer=state, items=items, mask=np.zeros_like(mask), negatives=negatives, learning_rate=np.float32(0.1)
    )
    jax.tree.map(np.testing.assert_array_equal, got["personal"], personal)


def test_encoding_leaves_personal_parameters_alone():
    model, params = random_model("dense")
    _, personal = ship(model, params, OFFSETS, RULES["dense"], "int8")
    jax.tree.map(np.testing.assert_array_equal, personal, model.split(params)[1])
    assert bytes_of(personal) == 4 * (8 * 36 + 12 * 36 + 36 + 36 + 12 * 8 + 8)


def test_more_results_than_candidates_are_refused():
    with pytest.raises(InputError, match="--top_k: expected at most the number of candidates, 5; got 6"):
        ExportOptions(candidates=5, top_k=6)
    assert dataclasses.replace(OPTIONS, top_k=6).top_k == 6
