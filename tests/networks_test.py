"""Scorers of the recommender: each is what a walk through one session at a time gives, and nothing later reaches an earlier step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from world import N_ITEMS, dataset_of, small_model

from jaxrec.data.blocks import session_blocks
from jaxrec.data.own_history import FEATURES, own_items
from jaxrec.evaluation import networks
from jaxrec.evaluation.networks import GlobalScorer, PersonalScorer, WithHistory, score_items
from jaxrec.stages.precision import at_precision

USERS = (0, 1, 2, 0, 1, 2, 0, 3, 1)


def world(users=USERS, seed=0):
    generator = np.random.default_rng(seed)
    sessions = [generator.integers(0, N_ITEMS, generator.integers(4, 9)).tolist() for _ in users]
    return dataset_of(sessions, list(users))


def blocks_of(dataset, predictions=24):
    return list(session_blocks(dataset, range(dataset.n_sessions), predictions))


def scored(scorer, blocks, n_items=N_ITEMS):
    """{(session, step): scores of every item} of every prediction."""
    found = {}
    for block in blocks:
        scores = np.asarray(scorer.scores(scorer.encode(block), 0, n_items))
        for place, (row, step) in enumerate(zip(*np.nonzero(block.mask), strict=True)):
            found[int(block.sessions[row]), int(step)] = scores[place]
    return found


def walked(model, params, dataset):
    """The same, one event at a time with the state carried by hand."""
    encode = jax.jit(lambda item, hidden: model.encode(params, params[model.input_table][item][None], hidden, jnp.zeros(1, bool)))
    found = {}
    for session in range(dataset.n_sessions):
        hidden = model.zero_hidden()
        for step, item in enumerate(dataset.session(session)[:-1]):
            vector, hidden = encode(item, hidden)
            found[session, step] = np.asarray(params["item_table"]) @ np.asarray(vector[0]) + np.asarray(params["item_bias"])
    return found


def close(a, b, atol=2e-6):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_allclose(a[key], b[key], atol=atol, err_msg=f"(session, step) {key}")


def with_bias(params, seed=0):
    """The parameters with an item bias that matters."""
    return {**params, "item_bias": jax.random.normal(jax.random.key(seed), params["item_bias"].shape)}


def stacked(model, params, seeds=(1, 2, 3)):
    """(shared part, personal parts of slot 0 = `params` and of one other model per seed, list of each slot's whole parameters)."""
    shared, start = model.split(params)
    parts = [start, *(model.split(model.init(jax.random.key(seed)))[1] for seed in seeds)]
    stack = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *parts)
    return shared, stack, [{**shared, **part} for part in parts]


@pytest.mark.parametrize("shape", [{}, {"units": (6, 4)}, {"dense": False}, {"table": "separate"}])
def test_the_global_scorer_is_a_walk_through_each_session(shape):
    model, params = small_model(**shape)
    params, dataset = with_bias(params), world()
    close(scored(GlobalScorer(model, params), blocks_of(dataset)), walked(model, params, dataset))


def test_slices_of_items_are_parts_of_the_whole():
    model, params = small_model()
    scorer, block = GlobalScorer(model, with_bias(params)), blocks_of(world())[0]
    encoded = scorer.encode(block)
    parts = [scorer.scores(encoded, start, min(start + 7, N_ITEMS)) for start in range(0, N_ITEMS, 7)]
    np.testing.assert_allclose(np.concatenate(parts, -1), scorer.scores(encoded, 0, N_ITEMS), atol=1e-6)


def test_a_personal_scorer_without_personal_models_is_the_global_one():
    model, params = small_model(units=(6, 4))
    shared, stack, _ = stacked(model, params)
    personal = PersonalScorer(model, shared, stack, np.zeros(4, np.int32))
    close(scored(personal, blocks_of(world())), scored(GlobalScorer(model, params), blocks_of(world())))


@pytest.mark.parametrize("rows_at_once", [64, 3])
def test_every_user_is_scored_by_the_own_model(monkeypatch, rows_at_once):
    monkeypatch.setattr(networks, "ROWS_AT_ONCE", rows_at_once)
    model, params = small_model(units=(6, 4))
    shared, stack, models = stacked(model, params)
    slots, dataset = np.array([2, 0, 3, 1], np.int32), world()
    blocks = blocks_of(dataset, 24 + rows_at_once)  # shapes of each case alone, so that each is compiled
    found = scored(PersonalScorer(model, shared, stack, slots), blocks)
    of_slot = [scored(GlobalScorer(model, one), blocks) for one in models]
    close(found, {key: of_slot[slots[USERS[key[0]]]][key] for key in found})
    assert abs(of_slot[2][0, 0] - of_slot[0][0, 0]).max() > 1e-3


def test_rows_without_a_user_take_the_global_model():
    model, params = small_model()
    shared, stack, _ = stacked(model, params)
    dataset = world([-1] * 4 + [1])
    found = scored(PersonalScorer(model, shared, stack, np.array([1, 2], np.int32)), blocks_of(dataset))
    of_all = scored(GlobalScorer(model, params), blocks_of(dataset))
    close({key: value for key, value in found.items() if key[0] < 4}, {key: value for key, value in of_all.items() if key[0] < 4})


POPULAR = np.random.default_rng(0).normal(size=N_ITEMS).astype(np.float32)
WEIGHTS = tuple(np.linspace(-1.5, 2, len(FEATURES)))


def test_without_weights_the_history_prior_is_the_base_alone():
    model, params = small_model()
    base = GlobalScorer(model, params)
    close(scored(WithHistory(base, (0.0,) * len(FEATURES), POPULAR), blocks_of(world())), scored(base, blocks_of(world())), atol=0)


@pytest.mark.parametrize("users", [USERS, [-1] * 9])
def test_the_history_prior_adds_to_own_items_what_their_features_weigh(users):
    model, params = small_model()
    dataset, base = world(users), GlobalScorer(model, params)
    before, expected = scored(base, blocks_of(dataset)), {}
    for block in blocks_of(dataset):
        own, (row, step) = own_items(block, POPULAR), np.nonzero(block.mask)
        for place in range(len(row)):
            key, here = (int(block.sessions[row[place]]), int(step[place])), own.prediction == place
            expected[key] = before[key].copy()
            expected[key][own.items[here]] += own.features[here] @ WEIGHTS
    close(scored(WithHistory(base, WEIGHTS, POPULAR), blocks_of(dataset)), expected, atol=1e-5)


def test_slices_of_items_are_parts_of_the_whole_with_the_history_prior():
    model, params = small_model()
    scorer = WithHistory(GlobalScorer(model, params), WEIGHTS, POPULAR)
    for block in blocks_of(world()):
        encoded = scorer.encode(block)
        parts = [scorer.scores(encoded, start, min(start + 7, N_ITEMS)) for start in range(0, N_ITEMS, 7)]
        np.testing.assert_allclose(np.concatenate(parts, -1), scorer.scores(encoded, 0, N_ITEMS), atol=1e-5)


def _scorers():
    model, params = small_model(units=(6, 4))
    shared, stack, _ = stacked(model, params)
    base, personal = GlobalScorer(model, params), PersonalScorer(model, shared, stack, np.array([2, 0, 3, 1], np.int32))
    return {"global": base, "personal": personal, "with history": WithHistory(personal, WEIGHTS, POPULAR)}


@pytest.mark.parametrize("name", ["global", "personal", "with history"])
def test_events_after_a_step_do_not_reach_it(name):
    scorer = _scorers()[name]
    for block in blocks_of(world()):
        scores = scored(scorer, [block])
        for step in range(block.mask.shape[1]):
            items = block.items.copy()
            items[:, step + 1 :] = (items[:, step + 1 :] + 11) % N_ITEMS
            changed = scored(scorer, [block._replace(items=items)])
            close(*({key: of[key] for key in scores if key[1] <= step} for of in (changed, scores)), atol=0)
            later = [key for key in scores if key[1] > step]
            assert not later or any((changed[key] != scores[key]).any() for key in later)


def test_item_rows_spread_over_devices_are_scored_where_they_lie():
    mesh = Mesh(jax.devices()[:2], ("items",))
    rows, whole = (NamedSharding(mesh, PartitionSpec(*names)) for names in (("items", None), ()))
    generator = np.random.default_rng(0)
    table, bias = (generator.normal(size=shape).astype(np.float32) for shape in ((4096, 8), (4096,)))
    vectors = generator.normal(size=(16, 8)).astype(np.float32)
    spread = jax.device_put(table, rows), jax.device_put(bias, NamedSharding(mesh, PartitionSpec("items")))
    shared, vectors_there = dict(zip(("item_table", "item_bias"), spread, strict=True)), jax.device_put(vectors, whole)
    for start, stop in [(0, 4096), (0, 64), (2000, 2100), (4090, 4096)]:
        found = score_items(shared, None, vectors_there, start, stop)
        np.testing.assert_allclose(found, vectors @ table[start:stop].T + bias[start:stop], atol=1e-5)
    compiled = networks._scores.lower(*spread, vectors_there, 2000, 64, True).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < table.nbytes / 4, "the whole table came to each device"


def test_bfloat16_rounds_rows_and_vectors_and_sums_in_float32():
    model, params = small_model()
    scorer, blocks = GlobalScorer(model, with_bias(params)), blocks_of(world())
    exact, rounded = scored(scorer, blocks), scored(at_precision(scorer, "bfloat16"), blocks)
    for key, scores in exact.items():
        assert (rounded[key] != scores).any()
        np.testing.assert_allclose(rounded[key], scores, atol=2**-6)
    vectors = np.array([[1, 2**-10, 1 + 2**-10]], np.float32)  # the last is rounded to 1
    rows = jnp.array([[1, 1, 0], [0, 0, 1]], jnp.bfloat16)
    assert score_items({"item_table": None, "item_bias": np.zeros(2, np.float32)}, rows, vectors, 0, 2).tolist() == [[1 + 2**-10, 1]]


def test_every_network_has_its_form_at_another_precision_and_nothing_else_has():
    scorers = _scorers()
    tables = [networks_of(at_precision(one, "bfloat16")).scored for one in scorers.values()]
    assert {table.dtype for table in tables} == {jnp.dtype(jnp.bfloat16)}
    for exact, rounded in ((networks_of(one), networks_of(at_precision(one, "int8"))) for one in scorers.values()):
        before, after = (getattr(one, "params", None) or one.shared for one in (exact, rounded))
        away = np.abs(before["item_table"] - after["item_table"])
        assert 0 < away.max() <= np.abs(before["item_table"]).max() / 254 * 1.001
        assert all(before[part] is after[part] for part in exact.model.personal_parts if part in before), "devices train them"
    adapted = dataclasses.replace(small_model()[0], adapter_rank=2)
    shared, start = adapted.split(small_model()[1])
    rounded = at_precision(PersonalScorer(adapted, shared, stacked_once(start), np.zeros(1, np.int32)), "int8").shared
    assert (rounded["dense"]["kernel"] != shared["dense"]["kernel"]).any(), "what adapters adapt is frozen"
    other = object()
    assert at_precision(other, "bfloat16") is other


def stacked_once(params):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], params)


def networks_of(scorer):
    return getattr(scorer, "base", scorer)
