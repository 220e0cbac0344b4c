"""Personalisation: three ways to run it agree, users do not touch each other, and it learns what only the user knows."""

import dataclasses

import jax
import numpy as np
import pytest
from world import N_ITEMS, dataset_of, small_model

from jaxrec.data.blocks import SessionBlock
from jaxrec.errors import InputError
from jaxrec.evaluation.networks import PersonalScorer
from jaxrec.learning.personalize import PersonalOptions, fit_users, personal_sampler, personalize, user_chunks
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, Recipe, RunOptions
from jaxrec.learning.train import Sessions, fit
from jaxrec.models.recommender import Model, ModelOptions
from jaxrec.stages.store import read_store, slots_of, write_store

OPTIONS = PersonalOptions(personal_n_sample=8, block_rows=2, block_steps=4, users_at_once=4)
RATE = 0.05


def shop(users=7, seed=0):
    """Sessions of several users in turn; user 3 has none before the test period."""
    generator = np.random.default_rng(seed)
    sessions, owners = [], []
    for number in range(40):
        user = number % users
        if user != 3:
            sessions.append(generator.integers(0, N_ITEMS, generator.integers(2, 9)).tolist())
            owners.append(user)
    cut = len(sessions)
    return dataset_of([*sessions, [1, 2, 3]], [*owners, 3], periods=(cut // 2, cut))


def results(dataset, options=OPTIONS, users=None, learning_rate=RATE):
    """{user: (parameters, whether the hold-out agreed)}."""
    model, params = small_model(units=(6, 4))
    shared, start = model.split(params)
    chunks = user_chunks(dataset, range(dataset.n_users) if users is None else users, 0, dataset.period("test").start, options)
    found = {}
    for own, result in personalize(model, options, shared, start, personal_sampler(dataset.item_counts, options), chunks, learning_rate):
        for i, user in enumerate(own):
            found[int(user)] = jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), result)
    return found


def close(a, b, atol=1e-6):
    assert a.keys() == b.keys()
    for user in a:
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a[user].params, b[user].params)
        assert a[user].improved == b[user].improved


@pytest.mark.parametrize("backend", ["vmap", "map"])
def test_users_at_once_are_users_one_by_one(backend):
    dataset = shop()
    together = dataclasses.replace(OPTIONS, personal_backend=backend)
    close(results(dataset, together), results(dataset, dataclasses.replace(OPTIONS, personal_backend="loop")))


def test_a_result_does_not_depend_on_who_else_is_there_or_in_what_order():
    dataset = shop()
    everyone, few = results(dataset), results(dataset, users=[6, 0])
    close({user: everyone[user] for user in few}, few)


def test_a_user_without_own_events_is_left_out_and_keeps_the_global_model():
    dataset = shop()
    found = results(dataset)
    assert sorted(found) == [0, 1, 2, 4, 5, 6]
    users, improved = np.array([-1, *found]), np.array([True] + [True] * len(found))
    assert slots_of(users, improved, dataset.n_users)[3] == 0


def test_only_own_sessions_before_the_test_period_teach():
    dataset = shop()
    cut = dataset.offsets[dataset.period("test").start]
    later = dataset.items.copy()
    later[cut:] = 0
    close(results(dataset), results(dataclasses.replace(dataset, items=later)))
    other = dataset.items.copy()
    of_user_0 = np.repeat(dataset.users, np.diff(dataset.offsets)) == 0
    other[of_user_0] = (other[of_user_0] + 1) % N_ITEMS
    changed = results(dataclasses.replace(dataset, items=other))
    close({user: result for user, result in results(dataset).items() if user}, {user: result for user, result in changed.items() if user})
    assert (changed[0].params["last"]["w_in"] != results(dataset)[0].params["last"]["w_in"]).any()


def test_replay_personal_leaves_out_what_happened_before():
    dataset, options = shop(), OPTIONS
    chunks = list(user_chunks(dataset, range(7), dataset.period("personal").start, dataset.period("test").start, options))
    events = sum(int(chunk.all.mask.sum()) for chunk in chunks)
    sessions = dataset.period("personal")
    assert events == (np.diff(dataset.offsets)[list(sessions)] - 1).sum()


def test_every_own_pair_is_in_the_blocks_once_and_the_hold_out_is_the_last_part():
    dataset = shop()
    for chunk in user_chunks(dataset, [0], 0, dataset.period("test").start, OPTIONS):
        pairs = [(a, b) for s in range(dataset.period("test").start) if dataset.users[s] == 0 for a, b in _pairs(dataset.session(s))]
        found = _planned(chunk.all)
        assert sorted(found) == sorted(pairs)
        assert sorted(_planned(chunk.fit) + _planned(chunk.holdout)) == sorted(pairs)
        last = max(s for s in range(dataset.period("test").start) if dataset.users[s] == 0)
        assert set(_pairs(dataset.session(last))) <= set(_planned(chunk.holdout))


def _pairs(session):
    return list(zip(session[:-1].tolist(), session[1:].tolist(), strict=True))


def _planned(block):
    return list(zip(block.items[..., :-1][block.mask].tolist(), block.items[..., 1:][block.mask].tolist(), strict=True))


def test_a_rate_of_zero_changes_nothing_and_the_hold_out_does_not_agree():
    model, params = small_model(units=(6, 4))
    start = model.split(params)[1]
    for result in results(shop(), learning_rate=0.0).values():
        jax.tree.map(np.testing.assert_array_equal, result.params, start)
        assert not result.improved


def test_few_shapes_are_compiled():
    dataset, options = shop(), dataclasses.replace(OPTIONS, personal_n_sample=9)  # shapes of this test alone
    before = fit_users._cache_size()
    results(dataset, options)
    shapes = {chunk.all.mask.shape for chunk in user_chunks(dataset, range(7), 0, dataset.period("test").start, options)}
    assert fit_users._cache_size() - before == len(shapes) <= 3


def test_what_only_the_user_knows_is_learnt_and_helps_no_one_else(tmp_path):
    """After item 0 the crowd clicks one of ten items at random; each user has an own one. Fine-tuning must find it."""
    generator = np.random.default_rng(0)
    sessions, owners = [], []
    for _ in range(12):
        for user in range(10):
            sessions.append([0, user + 1] * 2)
            owners.append(user)
    order = generator.permutation(len(sessions))
    dataset = dataset_of([sessions[i] for i in order], [owners[i] for i in order], periods=(100, 100), n_items=12)
    model = Model(ModelOptions(units=(12,), embedding_dim=8), 12)
    recipe = Recipe(LossOptions(n_sample=12), OptimizerOptions(), RunOptions(lanes=8, dropout_p_embed=0.0, dropout_p_hidden=0.0))
    fitted = fit(model, recipe, Sessions(dataset.items, dataset.offsets, dataset.item_counts), tmp_path, epochs=4)
    shared, start = model.split(fitted.params)
    options = PersonalOptions(personal_n_sample=12, personal_epochs=10, block_steps=4)
    chunks = user_chunks(dataset, range(10), 0, 100, options)
    found = list(personalize(model, options, shared, start, personal_sampler(dataset.item_counts, options), chunks, 0.05))
    write_store(tmp_path / "store", start, found)
    users, improved, stack = read_store(tmp_path / "store", start)
    scorer = PersonalScorer(model, shared, stack, slots_of(users, improved, 10))
    block = _one_click_blocks()
    scores = np.asarray(scorer.scores(scorer.encode(block), 0, 12))[:10]
    assert (scores.argmax(-1) == np.arange(10) + 1).all()


def _one_click_blocks():
    items = np.zeros((10, 2), np.int32)
    nothing = np.full((10, 1), -1, np.int32)
    return SessionBlock(items, np.ones((10, 1), bool), np.arange(10), np.arange(10, dtype=np.int32), nothing, np.zeros((10, 1), np.float32))


def test_a_store_of_another_model_is_refused(tmp_path):
    model, params = small_model(units=(6, 4))
    start = model.split(params)[1]
    write_store(tmp_path / "store", start, [])
    other, other_params = small_model(units=(6, 5))
    with pytest.raises(InputError, match="expected shape"):
        read_store(tmp_path / "store", other.split(other_params)[1])
    with pytest.raises(InputError, match="expected a store"):
        read_store(tmp_path / "nowhere", start)
