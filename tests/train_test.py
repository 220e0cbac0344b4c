"""Training: solvable worlds, resumption to the bit, a real kill, clear ends."""

import dataclasses
import json
import signal
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import command, line
from world import dataset_of, random_sessions, written

from jaxrec.data.lanes import plan_lanes
from jaxrec.errors import InputError
from jaxrec.evaluation.metrics import metrics
from jaxrec.evaluation.networks import GlobalScorer
from jaxrec.learning.checkpoints import load_params, open_checkpoints, restore, save, save_params
from jaxrec.learning.negatives import sampler
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, Recipe, RunOptions
from jaxrec.learning.train import Sessions, fit
from jaxrec.learning.updates import Span, run_updates, start
from jaxrec.models.recommender import Model, ModelOptions
from jaxrec.stages.train import rank, run_train, validation_start

SMALL = ModelOptions(units=(16,), embedding_dim=8)


def sessions_of(items, offsets, n_items=30):
    return Sessions(items, offsets, np.bincount(items, minlength=n_items))


def recipe(rate=0.1, n_sample=8, **run):
    return Recipe(
        LossOptions(n_sample=n_sample),
        OptimizerOptions(learning_rate=rate),
        RunOptions(lanes=4, **({"dropout_p_embed": 0.0, "dropout_p_hidden": 0.0} | run)),
    )


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_world_that_cycles_is_learnt_by_heart(tmp_path, steps):
    cycles = [[(start + i) % 6 for i in range(8)] for start in range(6)] * 10
    dataset = dataset_of(cycles, periods=(54, 54), n_items=6)
    sessions = sessions_of(dataset.items[: dataset.offsets[54]], dataset.offsets[:55], 6)
    fitted = fit(Model(SMALL, 6), recipe(rate=0.2, bptt_steps=steps), sessions, tmp_path, epochs=8)
    measured = metrics(rank(GlobalScorer(Model(SMALL, 6), fitted.params), dataset, dataset.period("test")))
    assert measured["recall@1"] == 1.0


@pytest.mark.parametrize("options", [{}, {"dropout_p_embed": 0.3, "dropout_p_hidden": 0.3}, {"bptt_steps": 3}, {"n_sample": 15}])
def test_a_resumed_run_is_the_uninterrupted_run_to_the_bit(tmp_path, options):
    model, sessions, how = Model(SMALL, 30), sessions_of(*random_sessions()), recipe(report_updates=7, **options)
    whole = fit(model, how, sessions, tmp_path / "whole", epochs=3)
    fit(model, how, sessions, tmp_path / "parts", epochs=1)
    resumed = fit(model, how, sessions, tmp_path / "parts", epochs=3)
    same(whole.params, resumed.params)
    assert [entry["epoch"] for entry in resumed.history] == [1, 2, 3]


def test_the_number_of_updates_per_call_changes_nothing(tmp_path):
    model, sessions = Model(SMALL, 30), sessions_of(*random_sessions())
    a = fit(model, recipe(report_updates=3), sessions, tmp_path / "a", epochs=1)
    b = fit(model, recipe(report_updates=1000), sessions, tmp_path / "b", epochs=1)
    same(a.params, b.params)


def test_another_seed_gives_another_model(tmp_path):
    model, sessions = Model(SMALL, 30), sessions_of(*random_sessions())
    a, b = (fit(model, recipe(seed=seed), sessions, tmp_path / str(seed), epochs=1) for seed in (0, 1))
    assert (np.asarray(a.params["item_table"]) != np.asarray(b.params["item_table"])).any()


def test_fewer_sessions_than_lanes_train(tmp_path):
    fitted = fit(Model(SMALL, 30), recipe(), sessions_of(np.array([1, 2, 3, 4, 5], np.int32), np.array([0, 3, 5])), tmp_path, epochs=2)
    assert fitted.events == 2 * 3
    assert np.isfinite(np.asarray(fitted.params["item_table"])).all()


def test_validation_picks_the_best_epoch_and_stops_when_patience_ends(tmp_path):
    scores = iter([0.1, 0.3, 0.2, 0.2, 0.9])
    seen = []

    def validate(params):
        seen.append(jax.tree.map(np.asarray, params))
        return {"mrr@20": next(scores)}

    fitted = fit(Model(SMALL, 30), recipe(patience=2), sessions_of(*random_sessions()), tmp_path, 10, validate)
    assert len(fitted.history) == 4
    same(fitted.params, seen[1])


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path):
    model, sessions = Model(SMALL, 30), sessions_of(*random_sessions())
    fit(model, recipe(), sessions, tmp_path, epochs=1)
    wild = dataclasses.replace(recipe(), optimizer=OptimizerOptions(optimizer="sgd", learning_rate=1e30))
    broken = tmp_path / "wild"
    with pytest.raises(InputError, match=r"not finite in updates 1 to \d+; no checkpoint was made before"):
        fit(model, wild, sessions, broken, epochs=5)
    assert fit(model, recipe(), sessions, tmp_path, epochs=1).updates > 0


def test_validation_is_the_last_part_of_the_global_period_only():
    dataset = dataset_of([[0, 1]] * 50, periods=(40, 45))
    assert validation_start(dataset, 0.1) == 36
    assert validation_start(dataset, 0.0) == 40


LOG_ROWS = 12_000


def write_log(path: Path, rows: int = LOG_ROWS) -> None:
    generator = np.random.default_rng(0)
    lines = ["SessionId\tItemId\tTime"]
    for session in range(rows // 4):
        start = generator.integers(0, 50)
        lines += [f"{session}\t{(start + i * i) % 50}\t{session * 100 + i}" for i in range(4)]
    path.write_text("\n".join(lines) + "\n")


def train_command(dataset: Path, workdir: Path, epochs: int = 6) -> list[str]:
    options = [
        "--units=16",
        "--embedding_dim=8",
        "--n_sample=16",
        "--lanes=8",
        f"--epochs={epochs}",
        "--validation_fraction=0",
        "--report_updates=50",
    ]
    return line("train", f"--dataset={dataset}", f"--workdir={workdir}", "--checkpoint_updates=100", *options)


def final_params(workdir: Path) -> str:
    return json.loads((workdir / "train/metrics.json").read_text())["fingerprint"]


def run(arguments: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A dataset, and the final parameters of a run on it that nothing interrupts."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_log(folder / "log.tsv")
    assert command("prepare", f"--input={folder / 'log.tsv'}", f"--dataset={folder / 'dataset'}").returncode == 0
    assert run(train_command(folder / "dataset", folder / "whole")).returncode == 0
    return folder / "dataset", final_params(folder / "whole")


@pytest.mark.parametrize("how", [pytest.param(signal.SIGKILL, marks=pytest.mark.long), signal.SIGTERM])
def test_a_process_that_was_ended_goes_on_and_ends_bit_identical(uninterrupted, tmp_path, how):
    dataset, whole = uninterrupted
    killed = subprocess.Popen(train_command(dataset, tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lines = tmp_path / "killed/train/final/metrics.jsonl"
    deadline = time.monotonic() + 120
    while killed.poll() is None and time.monotonic() < deadline and not (lines.exists() and lines.read_text().count("\n") > 8):
        time.sleep(0.01)
    killed.send_signal(how)
    _, said = killed.communicate()
    assert how == signal.SIGKILL or (killed.returncode == 1 and "run the same command again to go on" in said)
    assert not (tmp_path / "killed/train/metrics.json").exists(), "the process ended by itself; make the run longer"
    again = run(train_command(dataset, tmp_path / "killed"))
    assert again.returncode == 0, again.stderr
    assert "going on after update" in again.stderr
    assert final_params(tmp_path / "killed") == whole
    if how == signal.SIGKILL:
        return
    third = run(train_command(dataset, tmp_path / "killed"))
    assert "already done" in third.stderr
    other = run([*train_command(dataset, tmp_path / "killed"), "--learning_rate=0.3"])
    assert other.returncode == 1 and "--overwrite" in other.stderr and other.stderr.count("\n") == 1


def test_a_checkpoint_holds_the_moment_it_was_asked_for(tmp_path):
    """It is written while training goes on, in the same memory."""
    model, how = Model(ModelOptions(units=(64,), embedding_dim=64), 50_000), recipe(n_sample=2048)
    items, offsets = random_sessions()
    plan, rule = jax.device_put(plan_lanes(items, offsets, 4)), how.rule(4, model.n_items)
    carry, source, key = start(None, model, rule, 4, jax.random.key(0)), sampler(np.ones(50_000), 0.5, 1.0), jax.random.key(1)
    kept = open_checkpoints(tmp_path, 9, None)
    wanted = {}
    for update in range(1, 6):
        carry, _ = run_updates(None, model, how, rule, source, carry, plan, key, Span(0, 20, 0, 100))
        wanted[update] = jax.tree.map(np.array, carry)
        save(kept, update, carry, {}, None)
    for update, carried in wanted.items():
        same(restore(kept, update, carry)[0], carried)
    kept.close()


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path):
    scores = iter([0.1, 0.3, 0.2, 0.2, 0.25, 0.1])
    how = recipe(patience=5, keep_checkpoints=2)
    fit(Model(SMALL, 30), how, sessions_of(*random_sessions()), tmp_path, 6, lambda _: {"mrr@20": next(scores)})
    updates = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit())
    epoch = updates[-1] // 6
    assert updates == [2 * epoch, 5 * epoch, 6 * epoch]


def test_training_with_other_options_is_refused_with_the_differences(tmp_path):
    dataset = written(dataset_of([[0, 1, 2]] * 30, periods=(25, 25)), tmp_path / "dataset")
    run_train(dataset, tmp_path, SMALL, recipe(epochs=1))
    (tmp_path / "train/metrics.json").unlink()
    with pytest.raises(
        InputError, match=r"started otherwise \(--epochs: 1 there, 2 now; --learning_rate: 0.1 there, 0.2 now\); --overwrite"
    ):
        run_train(dataset, tmp_path, SMALL, recipe(rate=0.2, epochs=2))
    run_train(dataset, tmp_path, SMALL, recipe(rate=0.2, epochs=2), overwrite=True)


def test_options_that_change_no_result_may_change_between_runs(tmp_path):
    dataset = written(dataset_of([[0, 1, 2]] * 30, periods=(25, 25)), tmp_path / "dataset")
    first = run_train(dataset, tmp_path, SMALL, recipe(epochs=1))
    (tmp_path / "train/metrics.json").unlink()
    again = run_train(dataset, tmp_path, SMALL, recipe(epochs=1, report_updates=3, checkpoint_updates=2, keep_checkpoints=1))
    assert again["fingerprint"] == first["fingerprint"]


@pytest.mark.parametrize(
    "other", [{"units": (17,)}, {"units": (15,)}, {"embedding_dim": 9}, {"dense": False, "units": (8,)}, {"table": "separate"}]
)
def test_the_checkpoint_of_another_model_is_refused(tmp_path, other):
    how, sessions = recipe(), sessions_of(*random_sessions())
    params = fit(Model(SMALL, 30), how, sessions, tmp_path, epochs=1).params
    save_params(tmp_path / "model", params)
    same(load_params(tmp_path / "model", Model(SMALL, 30)), dict(params))
    changed = Model(dataclasses.replace(SMALL, **other), 30)
    for refused in (lambda: fit(changed, how, sessions, tmp_path, epochs=2), lambda: load_params(tmp_path / "model", changed)):
        with pytest.raises(InputError, match=r"expected \S+ of shape .*; got "):
            refused()
    with pytest.raises(InputError, match=r"expected item_\w+ of shape \(40,.*; got \(30,"):
        load_params(tmp_path / "model", Model(SMALL, 40))


def test_a_parameter_that_is_not_finite_is_never_saved(tmp_path):
    """One update: its loss is that of the parameters before it."""
    sessions = sessions_of(np.arange(8, dtype=np.int32), np.array([0, 2, 4, 6, 8]))
    wild = dataclasses.replace(recipe(), optimizer=OptimizerOptions(optimizer="sgd", learning_rate=3e38, weight_decay=1e3))
    with pytest.raises(InputError, match=r"a parameter is not finite in updates 1 to 1; no checkpoint was made before"):
        fit(Model(SMALL, 30), wild, sessions, tmp_path, epochs=1)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_tensorboard_reads_what_metrics_jsonl_says(tmp_path):
    pytest.importorskip("tensorboardX")
    fit(Model(SMALL, 30), recipe(tensorboard=True), sessions_of(*random_sessions()), tmp_path, epochs=1)
    (found,) = (tmp_path / "tensorboard").iterdir()
    assert found.name.startswith("events.out.tfevents") and b"loss" in found.read_bytes()
