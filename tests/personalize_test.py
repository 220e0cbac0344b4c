"""Personalisation: three ways to run it agree, users do not touch each other, devices choose well, what only the user knows is learnt."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from world import N_ITEMS, dataset_of, small_model

from jaxrec.data.blocks import SessionBlock
from jaxrec.data.user_blocks import Known, knowing, plan_users, user_events
from jaxrec.errors import InputError
from jaxrec.evaluation.networks import stack_users
from jaxrec.learning.mesh import MeshOptions, open_user_mesh
from jaxrec.learning.personal_recipe import ChoiceOptions, PersonalOptions
from jaxrec.learning.personalize import Advice, draw_negatives, drawn_shares, fit_users, no_advice, personal_sampler, personalize
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, Recipe, RunOptions
from jaxrec.learning.train import Sessions, fit
from jaxrec.models.recommender import TRAINABLE, Model, ModelOptions, personal_mask

RATE = 0.05
OPTIONS = PersonalOptions(personal_n_sample=8, personal_learning_rates=(RATE,), personal_epochs=2)
CHOICE = ChoiceOptions(holdout_strength=0.0)


LENGTHS = (2, 8, 5, 3, 6, 4)
"""Events of every user's sessions, the same for all, so that one shape holds all users and is compiled once."""


def shop(users=7, seed=0):
    """Sessions of several users in turn; user 3 has none before the test period."""
    generator = np.random.default_rng(seed)
    owners = [user for _ in LENGTHS for user in range(users) if user != 3]
    sessions = [generator.integers(0, N_ITEMS, length).tolist() for length in LENGTHS for _ in range(users - 1)]
    cut = len(sessions)
    return dataset_of([*sessions, [1, 2, 3]], [*owners, 3], periods=(cut // 2, cut))


def chunks_of(dataset, users, choice=CHOICE, rows=2, steps=4):
    plan = plan_users(dataset, users, 0, dataset.period("test").start, rows, steps, choice.holdout_fraction, 4)
    return [user_events(dataset, plan, number) for number in range(len(plan))]


def results(dataset, options=OPTIONS, users=None, choice=CHOICE, model=None, advice=None, candidates=None, **how):
    """{user: what fine-tuning gave}."""
    model, params = small_model(units=(4,)) if model is None else model
    shared, start = model.split(params)
    source, found = personal_sampler(dataset.item_counts, options), {}
    for events in chunks_of(dataset, np.arange(dataset.n_users) if users is None else users, choice):
        if candidates is not None:
            events = knowing(events, candidates, (np.zeros(0, int), np.zeros(0, int)), drawn_shares(dataset.item_counts, options))
        given = (model, options, choice, shared, start, source, no_advice(options) if advice is None else advice)
        own, result = personalize(*given, events, **how)
        for i, user in enumerate(own):
            found[int(user)] = jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), result)
    return found


def test_what_a_device_knows_does_not_depend_on_who_else_is_there():
    """Sums of shares to the last bit: a draw that falls between two items must not fall otherwise among other users."""
    dataset, lists = shop(), np.full((7, 12), -1, np.int32)
    lists[0] = np.arange(12)
    lists[1, :2] = [3, 5]
    nothing = (np.zeros(0, int), np.zeros(0, int))
    found = {}
    for users in ([1], [0, 1]):
        (events,) = (knowing(one, lists, nothing, drawn_shares(dataset.item_counts, OPTIONS)) for one in chunks_of(dataset, users))
        row = list(events.user).index(1)
        real = events.known.items[row] >= 0
        found[len(users)] = events.known.items[row][real], events.known.until[row][real]
    jax.tree.map(np.testing.assert_array_equal, found[1], found[2])


def close(a, b, atol=1e-6):
    assert a.keys() == b.keys()
    for user in a:
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a[user].params, b[user].params)
        assert (a[user].improved, a[user].rate, a[user].epochs) == (b[user].improved, b[user].rate, b[user].epochs)


EVERYTHING = dataclasses.replace(
    OPTIONS,
    personal_learning_rates=(0.02, RATE),
    anchor=0.1,
    personal_clip_norm=1.0,
    personal_dropout_p_embed=0.2,
    personal_dropout_p_hidden=0.3,
    personal_optimizer="sgd",
    personal_momentum=0.5,
)


ALL_ITEMS = dataclasses.replace(OPTIONS, personal_loss="full")


@pytest.mark.parametrize(
    ("backend", "options"), [("vmap", EVERYTHING), ("map", EVERYTHING), ("vmap", ALL_ITEMS)], ids=["vmap", "map", "full"]
)
def test_users_at_once_are_users_one_by_one(backend, options):
    dataset = shop()
    close(results(dataset, options, backend=backend), results(dataset, options, backend="loop"), 2e-6)


def test_users_on_many_devices_are_users_on_one():
    dataset = shop()
    together = results(dataset, mesh=open_user_mesh(MeshOptions(mesh=f"data:{len(jax.local_devices())}")))
    close(together, results(dataset))
    with pytest.raises(InputError, match="--mesh: expected data:N, at most"):
        open_user_mesh(MeshOptions(mesh="data:99"))
    with pytest.raises(InputError, match="--mesh: expected data:N"):
        open_user_mesh(MeshOptions(mesh="data:1,model:2"))


def test_a_result_does_not_depend_on_who_else_is_there_or_in_what_order():
    dataset = shop()
    everyone, few = results(dataset), results(dataset, users=[6, 0])
    close({user: everyone[user] for user in few}, few)


def test_a_user_without_own_events_is_left_out():
    assert sorted(results(shop())) == [0, 1, 2, 4, 5, 6]


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


def test_a_rate_of_zero_changes_nothing_and_is_not_used():
    model, params = small_model(units=(4,))
    start = model.split(params)[1]
    for result in results(shop(), dataclasses.replace(OPTIONS, personal_learning_rates=(0.0,))).values():
        jax.tree.map(np.testing.assert_array_equal, result.params, start)
        assert not result.improved


def test_what_a_device_takes_is_what_its_hold_out_likes_best():
    """One rate that hardly moves, one that destroys: no device takes the second, and each takes the epochs with the largest fall."""
    options = dataclasses.replace(OPTIONS, personal_learning_rates=(0.01, 30.0))
    for result in results(shop(), options).values():
        rate, epochs = np.unravel_index(result.falls.argmax(), result.falls.shape)
        assert (result.rate, result.epochs) == (np.float32((0.01, 30.0)[rate]), epochs + 1)
        assert result.held > 0 and not (result.improved and result.falls.max() <= 0)
    assert all(result.rate < 1 for result in results(shop(), options).values())


def test_the_result_is_training_on_all_events_with_what_was_chosen():
    options = dataclasses.replace(OPTIONS, personal_learning_rates=(0.003, 0.03))
    for user, result in results(shop(), options).items():
        alone = dataclasses.replace(options, personal_learning_rates=(float(result.rate),), personal_epochs=int(result.epochs))
        wanted = results(shop(), alone, [user], dataclasses.replace(CHOICE, holdout_fraction=0.0))[user]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), result.params, wanted.params)


def test_a_margin_that_nobody_reaches_keeps_the_global_model_for_all():
    assert not any(result.improved for result in results(shop(), choice=dataclasses.replace(CHOICE, holdout_margin=1e6)).values())


def test_what_others_say_decides_where_own_predictions_are_few():
    rates = jnp.array([0.01, 0.02])
    for best in ((0, 1), (1, 0)):
        gains = jnp.full((2, 2), -1.0).at[best].set(1.0)
        strong = dataclasses.replace(CHOICE, holdout_strength=1e6)
        options = dataclasses.replace(OPTIONS, personal_learning_rates=(0.01, 0.02))
        for result in results(shop(), options, choice=strong, advice=Advice(rates, gains)).values():
            assert (result.rate, result.epochs, result.improved) == (rates[best[0]], best[1] + 1, True)


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_a_device_trains_the_parts_that_were_asked_for_and_no_others(trainable):
    model, params = small_model(units=(6, 4))
    model = dataclasses.replace(model, trainable=trainable)
    shared, start = model.split(params)
    assert set(start) == set(TRAINABLE[trainable]) and not set(start) & set(shared)
    mask = personal_mask(model, params)
    assert {name for name, part in mask.items() if all(jax.tree.leaves(part)) and jax.tree.leaves(part)} == set(start)
    for result in results(shop(), choice=dataclasses.replace(CHOICE, holdout_fraction=0.0), model=(model, params)).values():
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), result.params, start)
        assert all(jax.tree.leaves(moved)), moved


def test_a_model_without_a_head_has_no_head_to_train():
    model, params = small_model(units=(5,), dense=False)
    with pytest.raises(InputError, match="--trainable: expected parts of the model"):
        dataclasses.replace(model, trainable="dense").split(params)


def test_an_adapter_starts_as_the_global_model_and_takes_fewer_numbers():
    model, params = small_model(units=(4,))
    model = dataclasses.replace(model, adapter_rank=1)
    start = model.split(params)[1]
    for user, result in results(
        shop(), model=(model, params), options=dataclasses.replace(OPTIONS, personal_learning_rates=(0.0,))
    ).items():
        assert not result.improved, user
    found = results(shop(), model=(model, params))
    of_whole = small_model(units=(4,))[0].split(params)[1]
    assert sum(leaf.size for leaf in jax.tree.leaves(start)) < sum(leaf.size for leaf in jax.tree.leaves(of_whole))
    assert any(result.improved for result in found.values()) or all((result.falls > -1).all() for result in found.values())
    inputs, hidden = jnp.ones((3, 5)), model.zero_hidden()
    with_adapter = model.encode({**params, **start}, inputs, hidden, jnp.zeros(3, bool))[0]
    np.testing.assert_array_equal(with_adapter, model.encode(params, inputs, hidden, jnp.zeros(3, bool))[0])


def test_an_adapter_of_full_rank_reaches_what_the_whole_matrix_reaches():
    """The update left @ right by one plain step of each factor, from left = 0: right^T right times the step of the whole matrix."""
    model, params = small_model(units=(4,))
    low = dataclasses.replace(model, adapter_rank=3)
    options = dataclasses.replace(OPTIONS, personal_optimizer="sgd", personal_epochs=1, personal_learning_rates=(1e-3,))
    choice = dataclasses.replace(CHOICE, holdout_fraction=0.0)
    dataset = dataset_of([[1, 2, 3], [4, 5]], [0, 0], (1, 1))
    whole, part = (results(dataset, options, choice=choice, model=(one, params))[0].params for one in (model, low))
    step = whole["dense"]["kernel"] - np.asarray(params["dense"]["kernel"])
    right = np.asarray(low.split(params)[1]["adapter"]["dense"]["kernel"].right)
    np.testing.assert_allclose(part["adapter"]["dense"]["kernel"].left, step @ right.T, atol=1e-7)


def test_negatives_of_a_device_that_knows_some_items_estimate_the_softmax_over_them():
    counts, options = np.array([1, 4, 9, 16, 25, 36]), PersonalOptions(personal_n_sample=5)
    source, key, n = personal_sampler(counts, options), jax.random.key(0), 200_000
    among_all = drawn_shares(counts, options)
    known = Known(jnp.array([-1, -1, 1, 2, 4]), jnp.cumsum(jnp.array([0, 0, *among_all[[1, 2, 4]]])))
    items, offsets = draw_negatives(source, known, key, n)
    share = np.sqrt(counts) * np.isin(np.arange(6), [1, 2, 4]) / (2 + 3 + 5)
    drawn = np.bincount(items, minlength=6) / n
    np.testing.assert_allclose(drawn, share, atol=5e-3)
    assert not drawn[share == 0].any()
    for item in (1, 2, 4):
        # Of 5 negatives of an update, as the options say.
        np.testing.assert_allclose(offsets[items == item], -np.log(5 * share[item]), atol=1e-5)


@pytest.mark.parametrize("backend", ["vmap", "map"])
def test_users_with_candidates_are_fine_tuned_one_by_one_as_well(backend):
    dataset = shop()
    lists = np.sort(np.random.default_rng(5).integers(0, N_ITEMS, (dataset.n_users, 6)), axis=1).astype(np.int32)
    together = results(dataset, backend=backend, candidates=lists)
    for own in (4, 0):
        ((user, alone),) = results(dataset, users=[own], backend="loop", candidates=lists).items()
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), together[user], alone)
    everything = results(dataset, backend=backend)
    assert any((together[0].params["dense"]["kernel"] != everything[0].params["dense"]["kernel"]).ravel())


def test_an_anchor_keeps_parameters_near_the_global_ones():
    start = small_model(units=(4,))[0].split(small_model(units=(4,))[1])[1]

    def away(anchor):
        options = dataclasses.replace(OPTIONS, anchor=anchor, personal_epochs=20)
        found = results(shop(), options, choice=dataclasses.replace(CHOICE, holdout_fraction=0.0)).values()
        return sum(float(np.square(a - b).sum()) for one in found for a, b in zip(*map(jax.tree.leaves, (one.params, start)), strict=True))

    assert away(3.0) < 0.7 * away(0.0)


def test_few_shapes_are_compiled():
    dataset, options = shop(), dataclasses.replace(OPTIONS, personal_n_sample=9)  # shapes of this test alone
    before = fit_users._cache_size()
    results(dataset, options)
    shapes = {events.late.shape for events in chunks_of(dataset, np.arange(7))}
    assert fit_users._cache_size() - before == len(shapes)


def test_shared_parameters_are_not_copied_for_every_user():
    """A table of 4 MiB: a copy for each of 64 users would take 256 MiB of temporary memory."""
    model = Model(ModelOptions(units=(4,), embedding_dim=8), 2**17)
    shared, start = jax.eval_shape(lambda: model.split(model.init(jax.random.key(0))))
    source = jax.eval_shape(lambda: personal_sampler(np.ones(model.n_items), OPTIONS))
    dataset = dataset_of([[1, 2, 3]] * 128, list(range(64)) * 2, (128, 128))
    (events,) = (user_events(dataset, plan_users(dataset, range(64), 0, 128, 2, 4, 0.25, 64), 0),)
    for backend in ("vmap", "map"):
        lowered = fit_users.lower(model, OPTIONS, CHOICE, shared, start, source, no_advice(OPTIONS), events, backend)
        assert lowered.compile().memory_analysis().temp_size_in_bytes < 32 * 2**20


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
    options = PersonalOptions(personal_n_sample=12, personal_epochs=10, personal_learning_rates=(0.05,))
    given = (model, options, CHOICE, shared, start, personal_sampler(dataset.item_counts, options), no_advice(options))
    plan = plan_users(dataset, range(10), 0, 100, 4, 4, CHOICE.holdout_fraction, 64)
    found = [personalize(*given, user_events(dataset, plan, number)) for number in range(len(plan))]
    assert all(result.improved.all() for _, result in found)
    scorer = stack_users(model, shared, start, [(users, result.params) for users, result in found], 10)
    scores = np.asarray(scorer.scores(scorer.encode(one_click()), 0, 12))[:10]
    assert (scores.argmax(-1) == np.arange(10) + 1).all()


def one_click():
    items = np.zeros((10, 2), np.int32)
    (block,) = _blocks_like(10)
    return block._replace(items=items, mask=np.ones((10, 1), bool), sessions=np.arange(10), users=np.arange(10, dtype=np.int32))


def _blocks_like(rows):
    nothing = {name: np.full((rows, 1), -1, np.int32) if name == "history_items" else np.zeros((rows, 1)) for name in SessionBlock._fields}
    return [SessionBlock(**nothing)]
