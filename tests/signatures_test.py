"""What the device runs, in JAX: against formulas and against the model as training and evaluation use it."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from device_world import (
    HISTORY,
    ITEMS,
    MODELS,
    NOBODY,
    OFFSETS,
    OPTIONS,
    POPULAR,
    RULES,
    entries,
    functions,
    own_inputs,
    random_block,
    random_model,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrec.data.blocks import Block
from jaxrec.data.own_history import features_now, own_now, past_of
from jaxrec.device.shipped import ExportOptions, ship
from jaxrec.errors import InputError
from jaxrec.learning.negatives import Negatives
from jaxrec.learning.step import init_state, step
from jaxrec.models.recommender import bytes_of


def ids(*items):
    return np.array(items, np.int32)


def vector_after(name, events):
    """User vector by the model as evaluation runs it."""
    model, params = random_model(name)
    rows = jnp.asarray(params[model.input_table])[jnp.array(events)]
    return np.asarray(model.encode(params, rows, model.zero_hidden(), jnp.zeros(len(events), bool))[0][-1])


def personal_of(name):
    model, params = random_model(name)
    return model.split(params)[1]


def ranking(name, context, length, own=NOBODY, exclude_seen=False, precision="float32", **candidates):
    """`recommend`, or `recommend_all` where no candidates are given."""
    inputs = {"personal": personal_of(name), "context": context, "length": np.int32(length), "own": own}
    entry = functions(name, precision)["recommend" if candidates else "recommend_all"]
    return entry(**inputs, exclude_seen=np.bool_(exclude_seen), **candidates)


def recommend(name, context, length, candidates, own=NOBODY, exclude_seen=False, precision="float32"):
    return ranking(name, context, length, own, exclude_seen, precision, candidates=candidates)


def bonus_of(sessions, running):
    """What the history prior adds to every item."""
    own, bonus = own_now(past_of(sessions), running), np.zeros(ITEMS, np.float32)
    bonus[own.items] = features_now(own, POPULAR[own.items]) @ np.array(HISTORY, np.float32)
    return bonus


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_rows_times_user_vector_plus_bias_plus_history(name):
    _, params = random_model(name)
    candidates, sessions = ids(4, 9, 5, 22, 17, 3), [[9, 4, 9], [22, 9]]
    found = recommend(name, ids(5, 6, 29, 29), 2, candidates, own_inputs(sessions, [5, 6]))
    vector = vector_after(name, [5, 6])
    scores = params["item_table"][candidates] @ vector + params["item_bias"][candidates] + bonus_of(sessions, [5, 6])[candidates]
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
    found = recommend("dense", ids(1, 2, 3, 4), 4, ids(-1, 7, ITEMS, -1, 8, -5))
    assert set(np.asarray(found["items"]).tolist()) == {7, 8, -1}
    assert found["items"][2] == -1
    assert found["scores"][2] < -1e20


def test_an_item_given_twice_is_returned_once():
    assert recommend("dense", ids(1, 2, 3, 4), 4, ids(6, 6, 6, 6, 6, 6))["items"].tolist() == [6, -1, -1]
    twice, once = (recommend("dense", ids(1, 2, 3, 4), 4, ids(*some)) for some in ((8, 3, 8, 9, 3, 1), (8, 3, 9, 1, -1, -1)))
    jax.tree.map(np.testing.assert_array_equal, twice, once)


def test_equal_scores_keep_the_order_of_the_candidates_and_of_the_catalogue():
    tied = entries(
        "dense",
        change=lambda params: {**params, **{name: np.zeros_like(params[name]) for name in ("item_table", "item_bias")}},
    )
    some, everything, *_ = tied
    found = some.function(**{**some.example, "own": NOBODY, "candidates": jnp.array(ids(9, 2, 7, 1, 3, 0))})
    np.testing.assert_array_equal(found["items"], [9, 2, 7])
    np.testing.assert_array_equal(everything.function(**{**everything.example, "own": NOBODY})["items"], [0, 1, 2])


@pytest.mark.parametrize("everything", (False, True), ids=("candidates", "catalogue"))
def test_what_the_session_clicked_can_be_left_out(everything):
    """Also clicks that the context is too short for: they are own items of the running session."""
    running = [3, 9, 4, 7, 12, 20]
    own, context = own_inputs([[5, 5, 8]], running), ids(*running[-4:])
    candidates = {} if everything else {"candidates": ids(9, 4, 5, 8, 20, 3)}
    with_seen, without = (ranking("dense", context, 4, own, exclude, **candidates) for exclude in (False, True))
    if everything:
        _, params = random_model("dense")
        scores = params["item_table"] @ vector_after("dense", running[-4:]) + params["item_bias"] + bonus_of([[5, 5, 8]], running)
        scores[running] = -np.inf
        np.testing.assert_array_equal(without["items"], np.argsort(-scores)[:3])
    else:
        assert set(np.asarray(without["items"]).tolist()) == {5, 8, -1}
    assert set(np.asarray(with_seen["items"]).tolist()) & set(running), "else this shows nothing"


@pytest.mark.parametrize("precision", ("float32", "float16", "int8"))
def test_the_catalogue_is_ranked_as_candidates_are(precision):
    own = own_inputs([[11, 11, 2], [2, 25]], [3, 1, 4])
    of_all = ranking("layers", ids(3, 1, 4, 0), 3, own, precision=precision)
    best = np.asarray(of_all["items"])
    some = np.concatenate([best[::-1], np.setdiff1d(np.arange(ITEMS), best)[:3]]).astype(np.int32)
    found = recommend("layers", ids(3, 1, 4, 0), 3, some, own, precision=precision)
    np.testing.assert_array_equal(found["items"], best)
    np.testing.assert_allclose(found["scores"], of_all["scores"], atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=4), max_size=2), st.lists(st.integers(0, ITEMS - 1), max_size=4))
def test_the_best_of_the_catalogue_are_those_of_a_full_sort(sessions, running):
    """Whatever own items win or lose by the history prior."""
    (_, params), own = random_model("no head"), own_inputs(sessions, running)
    found = ranking("no head", np.pad(ids(*running), (0, 4 - len(running))), len(running), own)
    vector = vector_after("no head", running) if running else np.zeros(8)
    scores = params["item_table"] @ vector + params["item_bias"] + bonus_of(sessions, running)
    np.testing.assert_allclose(found["scores"], np.sort(scores)[::-1][:3], atol=1e-4)
    np.testing.assert_allclose(scores[found["items"]], found["scores"], atol=1e-4)


def test_scores_are_those_that_candidates_are_ranked_by():
    some = ids(4, 9, 1, 22, -1, 3)
    ranked = recommend("layers", ids(5, 6, 0, 0), 2, some)
    scores = np.asarray(functions("layers")["score"](user_vector=ranked["user_vector"], candidates=some)["scores"])
    np.testing.assert_allclose(np.sort(scores)[::-1][:3], ranked["scores"], atol=1e-6)
    assert scores[4] < -1e20


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
    reset, hidden = np.array([[0, 0, 1], [1, 0, 0]], bool), jax.tree.map(lambda leaf: leaf + 0.3, model.zero_hidden(2))
    inputs = {"items": items, "mask": mask, "reset": reset, "hidden": hidden, "negatives": negatives}
    got = functions(name)["train"](personal=personal, optimizer=state.optimizer, **inputs, learning_rate=np.float32(0.1))
    looked = functions(name)["loss"](personal=personal, **inputs)
    against = Negatives(negatives, jnp.asarray(OFFSETS)[negatives], jnp.zeros((2, 3)))
    shared = jax.tree.map(jnp.asarray, shared)
    learn = jax.jit(partial(step, model, RULES[name]), compiler_options={"xla_backend_optimization_level": 0})
    state, after, loss = learn(shared, state, Block(items, mask, reset), hidden, against, jnp.float32(0.1))
    want = {"personal": state.dense, "optimizer": state.optimizer, "hidden": after, "loss": loss}
    jax.tree.map(partial(np.testing.assert_allclose, atol=5e-5), got, want)
    jax.tree.map(partial(np.testing.assert_allclose, atol=5e-5), looked, {"loss": loss, "hidden": after})


def test_a_block_without_predictions_changes_nothing():
    model, params = random_model("dense")
    personal = model.split(params)[1]
    items, mask, negatives = random_block(np.random.default_rng(1))
    state, nothing = init_state(RULES["dense"], personal).optimizer, np.zeros_like(mask)
    inputs = {"items": items, "mask": nothing, "reset": nothing, "hidden": model.zero_hidden(2), "negatives": negatives}
    got = functions("dense")["train"](personal=personal, optimizer=state, **inputs, learning_rate=np.float32(0.1))
    jax.tree.map(np.testing.assert_array_equal, got["personal"], personal)


def test_encoding_leaves_personal_parameters_alone():
    model, params = random_model("dense")
    _, personal = ship(model, params, OFFSETS, POPULAR, RULES["dense"], HISTORY, "int8")
    jax.tree.map(np.testing.assert_array_equal, personal, model.split(params)[1])
    assert bytes_of(personal) == 4 * (8 * 36 + 12 * 36 + 36 + 36 + 12 * 8 + 8)


def test_more_results_than_candidates_are_refused():
    with pytest.raises(InputError, match="--top_k: expected at most the number of candidates, 5; got 6"):
        ExportOptions(candidates=5, top_k=6)
    assert dataclasses.replace(OPTIONS, top_k=6).top_k == 6
