"""Updates on the way: only the past teaches, rounds are what they should be, who has none is as before, a change of taste is followed."""

import dataclasses
import itertools
import shutil

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import N_ITEMS, dataset_of, random_sessions, small_model, written

from jaxrec.data.blocks import runs
from jaxrec.data.subset import only
from jaxrec.data.user_blocks import joined, plan_users, user_events
from jaxrec.errors import InputError
from jaxrec.learning.personal_recipe import ChoiceOptions, PersonalOptions, PersonalRecipe, UserRunOptions
from jaxrec.learning.personalize import Device, no_advice, personal_sampler, personalize, refit
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, Recipe, RunOptions
from jaxrec.models.recommender import ModelOptions
from jaxrec.stages import personalize as stage
from jaxrec.stages.cadence import Devices, follow, updates_before
from jaxrec.stages.choice import Choice
from jaxrec.stages.history import Learnt
from jaxrec.stages.personal_run import PersonalRun
from jaxrec.stages.personalize import run_personalize
from jaxrec.stages.store import Store
from jaxrec.stages.train import Trained, run_train

OPTIONS = PersonalOptions(personal_n_sample=8, personal_epochs=2, personal_learning_rates=(0.1,))
PRIOR = (0.5, 0.0, 0.3, 0.0, 0.2, 0.0, 0.1, -0.2)


def stream(users=3, sessions=24, seed=0):
    """Test sessions of users in turn, after one global session of each."""
    items, offsets = random_sessions(seed, users + sessions, longest=6)
    lists = [items[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    return dataset_of(lists, [number % users for number in range(len(lists))], (users, users))


def followed(dataset, folder, update_every=8, **run):
    """Ranks by models that start as the global one."""
    model, params = small_model()
    trained = Trained(model, params, None, 0, "")
    recipe = PersonalRecipe(OPTIONS, run=UserRunOptions(update_every=update_every, block_rows=2, block_steps=4, **run))
    choice = Choice(no_advice(OPTIONS), Learnt(PRIOR, True, ()))
    nobody = np.full((dataset.n_users, 2), -1, np.int32)
    store = Store(folder, nobody, model.split(params)[1], "full")
    devices = Devices(store, np.full(dataset.n_users, 0.1, np.float32), np.full(dataset.n_users, 2))
    job = PersonalRun(dataset, trained, recipe)
    return follow(job, devices, lambda part, one, which: stage._rank(part, {"updated": one}, choice, job.popular, which))


def same(a, b, which=slice(None)):
    return all((getattr(a[name], column)[which] == getattr(b[name], column)[which]).all() for name in a for column in ("greater", "equal"))


def test_rounds_by_hand():
    lengths = [2, 2, 3, 2, 9, 2, 2, 2]
    sessions = [[1] * length for length in lengths]
    dataset = dataset_of([[1, 2], *sessions], [0, *[0, 1, 0, -1, 0, 0, 1, 1]], (1, 1))
    # User 0: 2 + 3 events, then 9, then 2; user 1: 2 + 2, then 2. The global session does not count.
    assert updates_before(dataset, 4).tolist() == [0, 0, 0, 0, 1, 2, 0, 1]
    assert updates_before(dataset, 5).tolist() == [0, 0, 0, 0, 1, 2, 0, 0]
    assert updates_before(dataset, 6).tolist() == [0, 0, 0, 0, 0, 1, 0, 0]


def test_an_update_waits_until_all_sessions_are_over():
    dataset = dataset_of([[1] * 4, [1] * 4, [1] * 4, [1] * 4], [0] * 4, (0, 0))
    times = dataset.times.copy()
    times[3] = times[8]  # the first session is over when the third starts
    times[11] = times[12] + 1  # the third is not when the fourth starts
    assert updates_before(dataclasses.replace(dataset, times=times), 4).tolist() == [0, 0, 1, 1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(1, 9), st.integers(0, 40)), min_size=1, max_size=40), st.integers(1, 20))
def test_rounds_are_those_of_devices_that_count(log, update_every):
    """The slow twin: each device counts the events of finished sessions."""
    dataset = dataset_of([[1] * length for _, length, _ in log], [user for user, _, _ in log], (0, 0))
    number, place = runs(np.array([length for _, length, _ in log]))
    dataset = dataclasses.replace(dataset, times=number * 10 + place * np.array([step for *_, step in log])[number])
    found = updates_before(dataset, update_every)
    for user in range(dataset.n_users):
        done, waiting, busy_until = 0, 0, -1
        for session in np.flatnonzero(dataset.users == user):
            begin, end = dataset.offsets[session], dataset.offsets[session + 1]
            if waiting >= update_every and dataset.times[begin] >= busy_until:
                done, waiting = done + 1, 0
            assert found[session] == done
            waiting, busy_until = waiting + end - begin, max(busy_until, dataset.times[end - 1])
    assert not found[dataset.users < 0].any()


def test_no_prediction_depends_on_a_later_session(tmp_path):
    dataset = stream()
    before = followed(dataset, tmp_path / "a")
    for cut in (9, 15, 21):
        items = dataset.items.copy()
        items[dataset.offsets[cut] :] = (items[dataset.offsets[cut] :] + 7) % N_ITEMS
        after = followed(dataclasses.replace(dataset, items=items), tmp_path / f"{cut}")
        earlier = before["updated"].sessions < cut
        assert same(before, after, earlier) and not same(before, after, ~earlier)


def test_what_is_learnt_from_is_what_came_before(tmp_path):
    """A change of a user's first session changes nothing in its own round but what is read, and all rounds after it."""
    dataset = stream()
    rounds, own = updates_before(dataset, 8), dataset.users[3:] == 0
    before, after = (followed(dataset, tmp_path / f"{every}", every) for every in (8, 10**6))
    which = rounds[before["updated"].sessions - 3] == 0
    assert same(before, after, which) and not same(before, after, ~which)
    assert rounds[own].max() > 1


def test_users_do_not_touch_each_other(tmp_path):
    dataset = stream()
    items = dataset.items.copy()
    of_user_0 = np.repeat(dataset.users, np.diff(dataset.offsets)) == 0
    items[of_user_0] = (items[of_user_0] + 7) % N_ITEMS
    together, alone = (followed(dataset, tmp_path / f"{width}", users_at_once=width) for width in (8, 1))
    assert same(together, alone)
    changed = followed(dataclasses.replace(dataset, items=items), tmp_path / "changed")
    others = together["updated"].users != 0
    assert same(together, changed, others) and not same(together, changed, ~others)


def test_chunks_that_are_there_are_not_made_again(tmp_path):
    dataset = stream()
    first = followed(dataset, tmp_path, users_at_once=1)
    next(tmp_path.glob("cadence/*/chunk-000001.npz")).unlink()
    again = followed(dataclasses.replace(dataset, item_counts=dataset.item_counts + 1), tmp_path, users_at_once=1)
    other = [user for user in range(3) if not same(first, again, first["updated"].users == user)]
    assert len(other) == 1, "the one whose chunk was gone has learnt from other negatives"


def fitted(options, start, number=0, backend="map", epochs=1):
    model, params = small_model()
    shared, origin = model.split(params)
    dataset = stream()
    plan = plan_users(dataset, range(3), 0, dataset.n_sessions, 2, 4, 0.0, 8)
    events, users = joined([user_events(dataset, plan, chunk) for chunk in range(len(plan))], 3), 3
    starts = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (users, *leaf.shape)) + 0, start)
    device = Device(starts, np.full(users, 0.1, np.float32), np.full(users, epochs))
    source = personal_sampler(dataset.item_counts, options)
    alone = personalize(
        *(model, options, ChoiceOptions(holdout_fraction=0.0), shared, origin, source, no_advice(options), events), backend
    )[1].params
    return alone, refit(model, options, shared, origin, source, number, device, events, backend)[1]


def close(a, b, atol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


def test_fine_tuning_again_from_the_global_model_is_fine_tuning():
    """The full softmax draws nothing."""
    model, params = small_model()
    full = dataclasses.replace(OPTIONS, personal_loss="full")
    close(*fitted(full, model.split(params)[1], epochs=2))


def test_fine_tuning_again_runs_alike_everywhere_and_draws_anew():
    model, params = small_model()
    start = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1, model.split(params)[1])
    found = [fitted(OPTIONS, start, 1, backend)[1] for backend in ("map", "vmap", "loop")]
    close(found[0], found[1], 2e-6)
    close(found[0], found[2])
    assert np.abs(found[0]["dense"]["kernel"] - fitted(OPTIONS, start, 2)[1]["dense"]["kernel"]).max() > 1e-4


def test_the_anchor_goes_on_pulling_to_the_global_model():
    """With a rate of r and an anchor of 1 / r the decoupled pull of the only update undoes the start."""
    model, params = small_model()
    origin = model.split(params)[1]
    dataset = dataset_of([[1, 2, 3]], [0], (1, 1))
    options = dataclasses.replace(OPTIONS, personal_epochs=1, personal_loss="full", anchor=10.0, personal_optimizer="sgd")
    start = jax.tree.map(lambda leaf: np.asarray(leaf)[None] + 1.0, origin)
    plan = plan_users(dataset, [0], 0, 1, 2, 4, 0.0, 8)
    given = (model.split(params)[0], origin, personal_sampler(dataset.item_counts, options), 0)
    device = Device(start, np.full(1, 0.1, np.float32), np.ones(1, np.int32))
    pulled, free = (
        refit(model, dataclasses.replace(options, anchor=anchor), *given, device, user_events(dataset, plan, 0))[1]
        for anchor in (10.0, 0.0)
    )
    close(jax.tree.map(np.subtract, free, pulled), jax.tree.map(np.ones_like, free), 1e-5)


def test_a_part_of_a_dataset_is_a_dataset():
    dataset = dataset_of([[1, 2], [3], [4, 5, 6], [7, 8]], [0, 1, 0, -1], (1, 3))
    part = only(dataset, np.array([0, 2, 3]))
    assert [part.session(number).tolist() for number in range(3)] == [[1, 2], [4, 5, 6], [7, 8]]
    assert part.users.tolist() == [0, 0, -1] and part.times.tolist() == [0, 10, 30, 40, 50, 60, 70]
    assert [list(part.period(name)) for name in ("global", "personal", "test")] == [[0], [1], [2]]


USERS = 6
TRAINING = PersonalOptions(personal_n_sample=12, personal_epochs=3, personal_learning_rates=(0.05,))
DECIDED = ChoiceOptions(holdout_margin=0.0, holdout_strength=0.0)


@pytest.fixture(scope="module")
def changing(tmp_path_factory):
    """A trained model of a log in which each user clicks an own item after item 0, and in the test period another one."""
    folder = tmp_path_factory.mktemp("changing")
    sessions = [[0, user + 1] * 2 for _ in range(10) for user in range(USERS)]
    sessions += [[0, user + 1 + USERS] * 2 for _ in range(10) for user in range(USERS)] + [[0, 1]]
    owners = [*range(USERS)] * 20 + [USERS]  # the last one comes only now
    dataset = written(dataset_of(sessions, owners, (9 * USERS, 10 * USERS), n_items=40), folder / "dataset")
    recipe = Recipe(LossOptions(n_sample=12), OptimizerOptions(), RunOptions(epochs=2, lanes=8))
    run_train(dataset, folder, ModelOptions(units=(12,), embedding_dim=8), recipe)
    return dataset, folder


@pytest.fixture(scope="module", params=["full", pytest.param("int8", marks=pytest.mark.long)])
def results(request, changing):
    """Of updates every 12 events and of none, with a history prior."""
    dataset, folder = changing
    shutil.rmtree(folder / stage.STORE, ignore_errors=True)  # with what validation said of other settings
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "choose", lambda *_: Choice(no_advice(TRAINING), Learnt(PRIOR, True, ())))
        return [
            run_personalize(
                dataset, folder, PersonalRecipe(TRAINING, DECIDED, UserRunOptions(update_every=every, keep=request.param)), overwrite=True
            )
            for every in (12, 10**6)
        ]


def test_before_the_first_update_everything_is_as_devices_ship_it(results):
    updated, never = results
    (row,) = never["cadence"]
    assert (row["updates"], row["users"], row["predictions"]) == (0, USERS + 1, never["predictions"])
    for metric in ("recall@20", "mrr@20"):
        assert row["fixed_with_history"][metric] == never["after"][metric]
        assert row["updated_with_history"][metric] == pytest.approx(never["after"][metric], abs=0.002)
    assert never["users_fallback"] < 1 and never["after"] != never["before_with_history"], "or the law is empty"
    first = updated["cadence"][0]
    assert first["updated_with_history"] == pytest.approx(first["fixed_with_history"], abs=0.002)


def test_rows_are_rounds_and_add_up(results):
    rows, total = results[0]["cadence"], results[0]["cadence_total"]
    assert [(row["updates"], row["users"], row["predictions"]) for row in rows] == [
        (0, USERS + 1, 3 * 3 * USERS + 1),
        (1, USERS, 9 * USERS),
        (2, USERS, 9 * USERS),
        (3, USERS, 3 * USERS),
    ]
    for name in ("before", "fixed", "updated_with_history"):
        assert sum(row[name]["mrr@20"] * row["predictions"] for row in rows) == pytest.approx(total[name]["mrr@20"] * total["predictions"])
    for name in ("before", "before_with_history"):
        assert total[name]["mrr@20"] == pytest.approx(results[0][name]["mrr@20"])


def test_a_change_of_taste_is_followed(results):
    rows, total = results[0]["cadence"], results[0]["cadence_total"]
    gained = [row["updated"]["mrr@20"] - row["fixed"]["mrr@20"] for row in rows]
    assert gained[1] > 0.02 and gained[3] > gained[1]
    assert total["network_gain_ci95"]["mrr@20"][0] > 0


def test_updates_tell_of_the_networks_that_validation_refused_too(results, changing):
    dataset, folder = changing
    shutil.rmtree(folder / stage.STORE)  # with what validation said
    run = UserRunOptions(update_every=12, keep=results[0]["settings"]["keep"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "choose", lambda *_: Choice(no_advice(TRAINING), Learnt(PRIOR, False, ())))
        refused = run_personalize(dataset, folder, PersonalRecipe(TRAINING, DECIDED, run), overwrite=True)
    assert refused["cadence"] == results[0]["cadence"]
    assert refused["users_fallback"] == 1.0 and refused["after"] == refused["before_with_history"] != results[0]["after"]


def test_updates_need_parameters_to_go_on_from():
    with pytest.raises(InputError, match="--update_every: expected a store of parameters"):
        UserRunOptions(update_every=50, keep="metrics")
