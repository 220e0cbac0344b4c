"""The store of personal models: it comes back as it went in, chunk by chunk; cut short or shared by processes, the same bytes come out."""

import dataclasses
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import line
from mesh_test import free_port
from world import dataset_of, small_model, written

from jaxrec.errors import InputError
from jaxrec.evaluation.networks import GlobalScorer
from jaxrec.evaluation.ranks import Ranks
from jaxrec.files import read_json, write_json
from jaxrec.learning.mesh import MeshOptions, open_user_mesh
from jaxrec.learning.personal_recipe import ChoiceOptions, PersonalOptions, PersonalRecipe, UserRunOptions
from jaxrec.learning.personalize import Personal
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, Recipe, RunOptions
from jaxrec.models.recommender import ModelOptions
from jaxrec.stages.candidates import CandidateOptions, run_candidates
from jaxrec.stages.evaluate import EvaluateOptions, run_evaluate, scorer
from jaxrec.stages.once import STARTED, go_on_or_begin
from jaxrec.stages.personalize import HISTORY, RESULT, STORE, run_personalize
from jaxrec.stages.store import (
    CONTENT,
    RANKS,
    StoredScorer,
    chunk_folder,
    finish_store,
    improved,
    is_finished,
    open_store,
    read_chunk,
    read_ranks,
    write_chunk,
)
from jaxrec.stages.train import load_trained, rank, run_train

ROOT = Path(__file__).parents[1]
PERSONAL = PersonalRecipe(
    PersonalOptions(personal_n_sample=4, personal_learning_rates=(0.01, 0.05), personal_epochs=2), run=UserRunOptions(users_at_once=5)
)
FLAGS = ("--personal_n_sample=4", "--personal_learning_rates=0.01,0.05", "--personal_epochs=2", "--users_at_once=5")


def start_of_a_model(units=(6, 4)):
    model, params = small_model(units=units)
    return jax.tree.map(np.asarray, model.split(params)[1])


def drawn(start, users, seed):
    """What fine-tuning some users might have given."""
    generator = np.random.default_rng(seed)
    params = jax.tree.map(lambda leaf: (leaf + generator.normal(size=(users, *leaf.shape)) / 10).astype(np.float32), start)
    ones = np.ones(users, np.float32)
    return Personal(
        params, generator.random(users) < 0.5, 0.1 * ones, np.ones(users, np.int32), np.ones(users, np.int32), np.ones((users, 1, 1))
    )


def filled(folder, keep, start):
    """A finished store of users 4, 1, 6 in one chunk and 0 in another, of eight, and what went in."""
    results = {0: ([4, 1, 6], drawn(start, 3, 0)), 1: ([0], drawn(start, 1, 1))}
    ranks = Ranks(*(np.arange(5) + place for place in range(5)))
    go_on_or_begin(folder, {"settings": {"keep": keep}, "inputs": {}}, CONTENT, False)
    for number, (users, result) in results.items():
        write_chunk(chunk_folder(folder, number), keep, start, np.array(users), result, {"fine_tuned": ranks}, 1.5)
    finish_store(folder, 8, {number: np.array(users) for number, (users, _) in results.items()})
    return results


@pytest.mark.parametrize(("keep", "allowed"), [("full", 0.0), ("int8", 0.5 / 127)])
def test_users_come_back_in_any_order_and_the_global_model_for_all_others(tmp_path, keep, allowed):
    start = start_of_a_model()
    (_, first), (_, second) = filled(tmp_path, keep, start).values()
    store = open_store(tmp_path, start)
    found = store.params(np.array([6, 0, 5, 4]))
    for got, a, b, otherwise in zip(*map(jax.tree.leaves, (found, first.params, second.params, start)), strict=True):
        wanted = np.stack([a[2], b[0], otherwise, a[0]])
        limit = allowed * np.abs(wanted - otherwise).max(-1, keepdims=True)
        assert (np.abs(got - wanted) <= limit * 1.001 + 1e-7 * (keep == "int8")).all()
    assert store.has(np.array([6, 0, 5, 4])).tolist() == [True, True, False, True]
    assert improved(store)[[4, 1, 6, 0]].tolist() == [*first.improved, *second.improved]
    stored = read_chunk(chunk_folder(tmp_path, 0))
    assert stored.users.tolist() == [4, 1, 6] and stored.seconds == 1.5
    np.testing.assert_array_equal(read_ranks(chunk_folder(tmp_path, 0) / RANKS)["fine_tuned"].equal, np.arange(5) + 4)


def test_int8_takes_a_quarter_of_the_bytes(tmp_path):
    start = start_of_a_model(units=(64, 64))
    size = {}
    for keep in ("full", "int8", "metrics"):
        filled(tmp_path / keep, keep, start)
        size[keep] = sum(path.stat().st_size for path in (tmp_path / keep).rglob("*.npy"))
    assert size["metrics"] < 0.02 * size["full"] and 0.2 < size["int8"] / size["full"] < 0.35


def test_what_is_not_a_store_of_this_model_is_refused(tmp_path):
    start = start_of_a_model()
    with pytest.raises(InputError, match="expected a finished store"):
        open_store(tmp_path / "nowhere", start)
    filled(tmp_path / "full", "full", start)
    with pytest.raises(InputError, match=r"expected shape \(12,\) of this model; got \(15,\)|expected shape .* of this model"):
        open_store(tmp_path / "full", start_of_a_model(units=(6, 5)))
    filled(tmp_path / "metrics", "metrics", start)
    with pytest.raises(InputError, match="--keep=metrics kept none"):
        open_store(tmp_path / "metrics", start)


def test_chunks_of_another_run_are_refused_unless_they_may_be_replaced(tmp_path):
    filled(tmp_path, "full", start_of_a_model())
    go_on_or_begin(tmp_path, {"settings": {"keep": "full"}, "inputs": {}}, CONTENT, False)
    assert chunk_folder(tmp_path, 1).exists()
    with pytest.raises(InputError, match=r"started otherwise .*--keep: 'full' there, 'int8' now"):
        go_on_or_begin(tmp_path, {"settings": {"keep": "int8"}, "inputs": {}}, CONTENT, False)
    go_on_or_begin(tmp_path, {"settings": {"keep": "int8"}, "inputs": {}}, CONTENT, True)
    assert [path.name for path in tmp_path.iterdir()] == [STARTED]


def test_a_chunk_that_was_planned_for_others_does_not_count(tmp_path):
    filled(tmp_path, "full", start_of_a_model())
    assert is_finished(chunk_folder(tmp_path, 0), np.array([4, 1, 6]))
    assert not is_finished(chunk_folder(tmp_path, 0), np.array([4, 1])) and not is_finished(chunk_folder(tmp_path, 2), np.array([4, 1, 6]))


def test_chunks_that_nothing_says_the_origin_of_are_refused(tmp_path):
    filled(tmp_path, "full", start_of_a_model())
    (tmp_path / STARTED).unlink()
    with pytest.raises(InputError, match=r"started otherwise \(it has no started\.json\); --overwrite replaces it"):
        go_on_or_begin(tmp_path, {"settings": {"keep": "full"}, "inputs": {}}, CONTENT, False)
    assert chunk_folder(tmp_path, 1).exists()


def log_of_users(users=40, sessions=12, seed=0):
    generator = np.random.default_rng(seed)
    clicks, owners = [], []
    for number in range(users * sessions):
        user = number % users
        length = 2 + number // users % 4  # the same for all users: one shape, one compilation
        clicks.append(((user * 3 + generator.integers(0, 4, length)) % 30).tolist())
        owners.append(user)
    clicks += [[1, 2], [3, 4]]
    owners += [users, -1]  # a new user, and a session of nobody
    total = len(clicks)
    return dataset_of(clicks, owners, (total * 6 // 10, total * 8 // 10))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A dataset and a workdir with a global model."""
    folder = tmp_path_factory.mktemp("trained")
    dataset = written(log_of_users(), folder / "dataset")
    recipe = Recipe(LossOptions(n_sample=8), OptimizerOptions(), RunOptions(epochs=2, lanes=8))
    run_train(dataset, folder, ModelOptions(units=(6,), embedding_dim=5), recipe)
    return dataset, folder


@pytest.fixture(scope="module")
def whole(trained):
    """The same after personalisation in one go."""
    dataset, folder = trained
    return run_personalize(dataset, folder, PERSONAL)


def workdir_like(trained, folder):
    folder.mkdir(parents=True)
    (folder / "train").symlink_to(trained[1] / "train")
    return folder


def store_bytes(workdir):
    """Every array of a store."""
    store = workdir / STORE
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*.np[yz]")}


def start(trained, workdir, *more, devices=1):
    command = line("personalize", f"--dataset={trained[1] / 'dataset'}", f"--workdir={workdir}", *FLAGS, *more)
    flags = {"PYTHONPATH": str(ROOT), "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_users_are_compared_on_the_same_predictions(trained, whole):
    dataset, _ = trained
    lengths = np.diff(dataset.offsets)
    test = np.arange(dataset.period("test").start, dataset.n_sessions)
    assert whole["predictions"] == (lengths[test] - 1)[dataset.users[test] >= 0].sum(), "a session of nobody is nobody's"
    assert whole["users"] == 41 and whole["users_trained"] == 40
    assert whole["new_users"]["users"] == 1 and whole["old_users"]["users"] == 40
    assert whole["new_users"]["before"] == whole["new_users"]["fine_tuned"]
    for name in ("users", "predictions"):
        assert whole["new_users"][name] + whole["old_users"][name] == whole[name]
    assert whole["users_better"] + whole["users_same"] + whole["users_worse"] == pytest.approx(1)


def test_what_ships_is_what_the_store_holds(trained, whole):
    dataset, folder = trained
    found = run_evaluate(dataset, folder, EvaluateOptions(model=("personal",)), overwrite=True)["personal"]
    test = np.arange(dataset.period("test").start, dataset.n_sessions)
    nobody = dataset.users[test] < 0
    assert found["predictions"] == whole["predictions"] + (np.diff(dataset.offsets)[test][nobody] - 1).sum()
    old = dataclasses.replace(PERSONAL, choice=ChoiceOptions(holdout_margin=1e9))
    with pytest.raises(InputError, match=r"--holdout_margin: 0.5 there, 1000000000.0 now"):
        run_personalize(dataset, folder, old)


def test_a_prior_of_other_features_is_refused(trained, whole, tmp_path):
    dataset, workdir = trained[0], workdir_like(trained, tmp_path / "old")
    assert len(whole["inputs"][HISTORY].split(", ")) == len(whole["history"])
    written = {**whole, "history": whole["history"][:-1], "inputs": {**whole["inputs"], HISTORY: "own"}}
    write_json(workdir / RESULT, written)
    with pytest.raises(InputError, match=r"expected weights of own, .*--overwrite"):
        run_evaluate(dataset, workdir, EvaluateOptions(model=("personal",)))
    with pytest.raises(InputError, match=r"features of the history prior: 'own' there, 'own, .* now.*--overwrite"):
        run_personalize(dataset, workdir, PERSONAL)


def test_nobody_is_worse_off_where_no_device_takes_its_own_model(trained, tmp_path):
    dataset, _ = trained
    workdir = workdir_like(trained, tmp_path / "careful")
    never = ChoiceOptions(holdout_margin=1e9, holdout_strength=0.0, history_prior=False)
    found = run_personalize(dataset, workdir, dataclasses.replace(PERSONAL, choice=never))
    assert (found["after"], found["users_worse"], found["users_fallback"]) == (found["before"], 0.0, 1.0)


def test_a_killed_run_goes_on_to_the_same_bytes_and_trains_no_chunk_twice(trained, whole, tmp_path):
    workdir = workdir_like(trained, tmp_path / "killed")
    running = start(trained, workdir)
    first = chunk_folder(workdir / STORE, 1)
    deadline = time.monotonic() + 240
    while running.poll() is None and not first.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=60)
    assert not (workdir / "personal/metrics.json").exists(), "it was killed too late to show anything"
    before = {path: path.stat().st_mtime_ns for path in (workdir / STORE).glob("chunk-*/users.npy")}
    again = start(trained, workdir)
    _, told = again.communicate(timeout=300)
    assert again.returncode == 0, told
    assert f"going on, {len(before)} of" in told
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert store_bytes(workdir) == store_bytes(trained[1])
    assert read_json(workdir / "personal/metrics.json", "result")["after"] == whole["after"]


def test_two_processes_make_the_store_of_one(trained, whole, tmp_path):
    workdir = workdir_like(trained, tmp_path / "two")
    meet = (f"--coordinator_address=localhost:{free_port()}", "--num_processes=2")
    together = [start(trained, workdir, *meet, f"--process_id={number}") for number in range(2)]
    said = [process.communicate(timeout=300) for process in together]
    assert [process.returncode for process in together] == [0, 0], said
    assert "users/s" in said[0][0] and "users/s" not in said[1][0], "the first process speaks for all"
    assert store_bytes(workdir) == store_bytes(trained[1])
    assert read_json(workdir / "personal/metrics.json", "result")["after"] == whole["after"]


def test_all_devices_of_a_process_make_the_store_of_one(trained, whole, tmp_path):
    dataset, folder = trained
    workdir, cadence = workdir_like(trained, tmp_path / "devices"), dataclasses.replace(PERSONAL.run, update_every=4)
    mesh = open_user_mesh(MeshOptions())
    assert mesh.size == 2
    found = run_personalize(dataset, workdir, dataclasses.replace(PERSONAL, run=cadence), mesh=mesh)
    assert found["cadence"] and found["after"]["recall@20"] == pytest.approx(whole["after"]["recall@20"], abs=0.01)
    for path in (folder / STORE).glob("chunk-*/last.*.npy"):
        np.testing.assert_allclose(np.load(workdir / path.relative_to(folder)), np.load(path), atol=1e-5)


def test_processes_with_other_options_are_refused_and_leave_nothing_wrong(trained, tmp_path):
    workdir = workdir_like(trained, tmp_path / "unlike")
    meet = (f"--coordinator_address=localhost:{free_port()}", "--num_processes=2")
    together = [start(trained, workdir, *meet, f"--process_id={number}", *(["--personal_seed=5"] * number)) for number in range(2)]
    _, told = together[1].communicate(timeout=120)
    together[0].kill()
    together[0].communicate(timeout=60)
    assert together[1].returncode == 1
    assert "expected the same options in all processes; got other ones here (--personal_seed: 0 there, 5 now)" in told


def test_what_is_measured_is_what_an_int8_store_gives_back(trained, tmp_path):
    dataset, _ = trained
    workdir = workdir_like(trained, tmp_path / "int8")
    rough = dataclasses.replace(PERSONAL, training=dataclasses.replace(PERSONAL.training, personal_learning_rates=(0.3,)))
    careless = dataclasses.replace(rough, choice=ChoiceOptions(holdout_fraction=0.0, history_prior=False))
    run_personalize(dataset, workdir, dataclasses.replace(careless, run=dataclasses.replace(careless.run, keep="int8")))
    trained_model = load_trained(workdir, dataset)
    shared, begin = trained_model.model.split(trained_model.params)
    store = open_store(workdir / STORE, begin)
    stored = read_ranks(chunk_folder(workdir / STORE, 0) / RANKS)["fine_tuned"]
    everyone = StoredScorer(trained_model.model, shared, store, np.ones(dataset.n_users, bool))
    again = rank(everyone, dataset, np.unique(stored.sessions))
    np.testing.assert_array_equal(again.greater, stored.greater)
    plain = rank(GlobalScorer(trained_model.model, trained_model.params), dataset, np.unique(stored.sessions))
    assert (plain.greater != stored.greater).any()


def test_a_diverging_rate_harms_nobody(trained, tmp_path):
    dataset, _ = trained
    workdir = workdir_like(trained, tmp_path / "diverging")
    wild = dataclasses.replace(PERSONAL.training, personal_optimizer="sgd", personal_learning_rates=(0.01, 1e30))
    found = run_personalize(dataset, workdir, dataclasses.replace(PERSONAL, training=wild))
    assert found["learning_rate"] == pytest.approx(0.01)
    assert np.isfinite(found["after"]["mrr@20"])


def updated(trained, workdir, negatives):
    """Ranks after updates on the way, by devices that decide alone."""
    run = dataclasses.replace(PERSONAL.run, personal_negatives=negatives, update_every=4)
    run_candidates(trained[0], workdir, CandidateOptions(candidates_per_user=(5,)))
    run_personalize(trained[0], workdir, PersonalRecipe(PERSONAL.training, ALONE, run))
    return read_ranks(next((workdir / STORE / "cadence").rglob("*.npz")))["updated"]


ALONE = ChoiceOptions(validation_users=10, holdout_margin=0.0)


@pytest.mark.long
def test_negatives_may_be_the_candidates_that_were_picked(trained, whole, tmp_path):
    dataset, folder = trained
    workdir = workdir_like(trained, tmp_path / "chosen")
    with_candidates = dataclasses.replace(PERSONAL, run=dataclasses.replace(PERSONAL.run, personal_negatives="candidates"))
    with pytest.raises(InputError, match=r"candidates/metrics.json: expected a result of `candidates`"):
        run_personalize(dataset, workdir, with_candidates)
    run_candidates(dataset, workdir, CandidateOptions(candidates_per_user=(5,)))
    found = run_personalize(dataset, workdir, with_candidates)
    assert found["trials"] != whole["trials"], "validation goes by the same negatives"
    kernel = (chunk_folder(STORE, 0) / "dense.kernel.npy", chunk_folder(STORE, 0) / "users.npy")
    (kernel_here, users_here), (kernel_there, users_there) = ([np.load(at / path) for path in kernel] for at in (workdir, folder))
    np.testing.assert_array_equal(users_here, users_there)
    assert (kernel_here != kernel_there).any(), "and so do devices"
    here, there = (updated(trained, workdir_like(trained, tmp_path / negatives), negatives) for negatives in ("candidates", "all"))
    assert (here.greater != there.greater).any(), "and their updates"
    run_candidates(dataset, workdir, CandidateOptions(candidates_per_user=(4,)), overwrite=True)
    with pytest.raises(InputError, match=r"the candidates: .* there, .* now"):
        run_personalize(dataset, workdir, with_candidates)
    with pytest.raises(InputError, match="--personal_negatives=candidates: expected a loss over negatives; got --personal_loss=full"):
        dataclasses.replace(with_candidates, training=dataclasses.replace(PERSONAL.training, personal_loss="full"))


def test_another_cadence_keeps_the_store(trained, whole, tmp_path):
    dataset, folder = trained
    workdir = workdir_like(trained, tmp_path / "cadence")
    shutil.copytree(folder / STORE, workdir / STORE)
    before = {path: path.stat().st_mtime_ns for path in (workdir / STORE).glob("chunk-*/users.npy")}
    found = run_personalize(dataset, workdir, dataclasses.replace(PERSONAL, run=dataclasses.replace(PERSONAL.run, update_every=4)))
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert found["after"] == whole["after"] and found["cadence"]


def test_the_choice_of_an_earlier_run_is_kept_when_a_run_goes_on(trained, whole, tmp_path):
    """What devices were told must not change in the middle: it is read, not asked again."""
    dataset, folder = trained
    workdir = workdir_like(trained, tmp_path / "told")
    settings = read_json(folder / STORE / STARTED, "record")
    go_on_or_begin(workdir / STORE, settings, CONTENT, False)
    told = read_json(folder / STORE / "choice.json", "choice")
    told["learnt"]["fine_tuned"] = False
    write_json(workdir / STORE / "choice.json", told)
    found = run_personalize(dataset, workdir, PERSONAL)
    assert found["users_fallback"] == 1.0 and found["after"] == found["before_with_history"]
    assert not scorer("personal", dataset, workdir).base.mine.any(), "what validation refuses no device uses"
    store = open_store(workdir / STORE, load_trained(workdir, dataset).model.split(load_trained(workdir, dataset).params)[1])
    assert improved(store).any(), "what its own hold-out said stays known"
