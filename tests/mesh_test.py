"""Training on a mesh: the same as on one device, tables that no device holds whole, real processes that may end."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import command, line
from train_test import final_params, run, write_log
from world import random_sessions

from jaxrec.data.blocks import Block
from jaxrec.data.lanes import plan_lanes
from jaxrec.errors import InputError
from jaxrec.learning.checkpoints import digest
from jaxrec.learning.mesh import DATA, MODEL, MeshOptions, open_mesh, sharding
from jaxrec.learning.negatives import Sampler
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, Recipe, RunOptions
from jaxrec.learning.train import Sessions, fit
from jaxrec.learning.updates import Span, run_updates, start
from jaxrec.models.recommender import Model, ModelOptions

MESHES = ["data:2", "data:1,model:2"]
CASES = {
    "cross-entropy": {},
    "bpr-max, momentum, BPTT": {"loss": "bpr-max", "logq": 0.0, "momentum": 0.3, "bptt_steps": 3},
    "separate tables, Adam, clipped": {"table": "separate", "optimizer": "adam", "learning_rate": 0.01, "clip_norm": 0.1},
    "one-hot, two layers, decay": {"table": "one-hot", "units": (6, 7), "weight_decay": 0.01, "dropout_p_embed": 0.0},
}
OFTEN = ("bpr-max, momentum, BPTT",)
"""Those that are run every day."""


def options_of(changes):
    given = {"units": (6,), "embedding_dim": 5, "n_sample": 8, "lanes": 4, "report_updates": 7} | changes
    kinds = (ModelOptions, LossOptions, OptimizerOptions, RunOptions)
    model, *recipe = (kind(**{name: given[name] for name in kind.__dataclass_fields__ if name in given}) for kind in kinds)
    return model, Recipe(*recipe)


def trained(folder, mesh, epochs=2, items=31, sessions=40, **changes):
    events, offsets = random_sessions(sessions=sessions, n_items=items)
    model_options, recipe = options_of(changes)
    sessions = Sessions(events, offsets, np.bincount(events, minlength=items))
    return fit(Model(model_options, items), recipe, sessions, folder, epochs, mesh=open_mesh(MeshOptions(mesh=mesh)))


def losses(path):
    lines = map(json.loads, path.read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def same(found, wanted, items=31):
    """Tables that are spread may have more rows than there are items."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(np.asarray(a)[: len(b)], b, atol=1e-5), dict(found), dict(wanted))


@pytest.mark.parametrize("case", [pytest.param(case, marks=[] if case in OFTEN else pytest.mark.long) for case in CASES])
def test_a_mesh_trains_what_one_device_trains(tmp_path, case):
    alone = trained(tmp_path / "alone", "", **CASES[case])
    for mesh in MESHES:
        found = trained(tmp_path / mesh, mesh, **CASES[case])
        same(found.params, alone.params)
        np.testing.assert_allclose(losses(tmp_path / mesh / "metrics.jsonl"), losses(tmp_path / "alone" / "metrics.jsonl"), rtol=1e-4)


def test_full_softmax_trains_on_spread_lanes(tmp_path):
    same(trained(tmp_path / "a", "data:2", loss="full").params, trained(tmp_path / "b", "", loss="full").params)


@pytest.mark.parametrize("mesh", MESHES)
def test_few_items_are_trained_against_each_other_on_any_mesh(tmp_path, mesh):
    """Where the axis `model` asks to spread the table each of its devices holds the whole, small as it is."""
    same(trained(tmp_path / "a", mesh, n_sample=16).params, trained(tmp_path / "b", "", loss="full").params)


@pytest.mark.parametrize(
    ("meshes", "n_sample"), [(("data:2", ""), 8), (("", "data:1,model:2"), 8), (("data:1,model:2", "data:2"), 8), (("data:2", ""), 16)]
)
def test_training_goes_on_on_another_mesh(tmp_path, meshes, n_sample):
    whole = trained(tmp_path / "whole", "", n_sample=n_sample)
    trained(tmp_path / "parts", meshes[0], epochs=1, n_sample=n_sample)
    same(trained(tmp_path / "parts", meshes[1], n_sample=n_sample).params, whole.params)


def test_fewer_sessions_than_lanes_are_shared_out_or_refused(tmp_path):
    alone, spread = (trained(tmp_path / str(i), mesh, lanes=64) for i, mesh in enumerate(["", "data:2"]))
    same(spread.params, alone.params)
    with pytest.raises(InputError, match="--mesh: expected as many sessions as --lanes, 64, to share them out; got 5"):
        trained(tmp_path / "five", "data:2", sessions=5, lanes=64)


def test_no_device_holds_a_whole_table():
    """The programs that one of two devices runs for 4 million items name no array of so many rows."""
    items, mesh = 4_000_000, open_mesh(MeshOptions(mesh="data:1,model:2"))
    model_options, recipe = options_of({"units": (32,), "embedding_dim": 32, "dense": False})
    model, rule, key = Model(model_options, items), recipe.rule(4, items), jax.random.key(0)
    carry = jax.eval_shape(partial(start, mesh, model, rule, 4), key)
    plan = jax.eval_shape(lambda: Block(jnp.zeros((3, 4, 2), jnp.int32), *(jnp.zeros((3, 4, 1), bool),) * 2))
    source = Sampler(*(jax.ShapeDtypeStruct((items,), kind) for kind in (jnp.float32, jnp.int32, jnp.float32, jnp.float32)))
    begin = jax.jit(partial(start, mesh, model, rule, 4)).lower(key).compile()
    update = run_updates.lower(mesh, model, recipe, rule, source, carry, plan, key, Span(0, 1, 0, 100)).compile()
    for program in (begin, update):
        assert "[2000000,64]" in program.as_text(), "half of the rows, with what the optimizer keeps"
        assert "[4000000," not in program.as_text()
    assert update.memory_analysis().temp_size_in_bytes < 1e6


def test_every_process_reads_only_the_sessions_of_its_lanes():
    class Counted(np.ndarray):
        def __getitem__(self, index):
            found = super().__getitem__(index)
            self.read.update(np.atleast_1d(np.asarray(index)).tolist())
            return np.asarray(found)

    events, offsets = random_sessions()
    whole = plan_lanes(events, offsets, 6, 2)
    counted = events.view(Counted)
    counted.read = set()
    part = plan_lanes(counted, offsets, 6, 2, slice(2, 4))
    for found, all_of_it in zip(part, whole, strict=True):
        np.testing.assert_array_equal(found, all_of_it[:, 2:4])
    assert 0 < len(counted.read) < 0.6 * len(events)


def test_the_digest_is_that_of_the_numbers_wherever_they_lie():
    table = np.random.default_rng(0).normal(size=(6, 4)).astype("f")
    mesh = open_mesh(MeshOptions(mesh="data:1,model:2"))
    assert (
        digest({"a": table})
        == digest({"a": jax.device_put(table, sharding(mesh, MODEL))})
        == digest({"a": np.pad(table, ((0, 2), (0, 0)))})
    )
    swapped = table.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    signs = table.copy()
    signs[[0, 3], 0] *= -1
    others = [{"a": -table}, {"a": swapped}, {"a": signs}, {"b": table}, {"a": table.reshape(-1)}, {"a": table, "b": None}]
    assert len({digest(*parts) for parts in [({"a": table},), ({"a": table}, 1), *((one,) for one in others)]}) == 8


def test_every_part_and_every_number_counts_in_the_digest():
    one, two = {"a": np.ones(3, "f")}, {"a": np.full(3, 2, "f")}
    assert len({digest(*parts) for parts in [(one, one, 1), (two, one, 1), (one, two, 1), (one, None, 1), (one, one, 2)]}) == 5


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"mesh": "data=2"}, "--mesh: expected data:N or data:N,model:M; got 'data=2'"),
        ({"mesh": "data:64"}, "--mesh: expected a mesh of at most the 2 devices that there are; got 'data:64'"),
        ({"num_processes": 2}, "--coordinator_address: expected host:port with --num_processes and --process_id"),
        ({"coordinator_address": "auto", "process_id": 0}, "or auto or nothing without them; got auto, None and 0"),
        ({"coordinator_address": "here", "num_processes": 2, "process_id": 0}, "--coordinator_address: expected host:port; got 'here'"),
        (
            {"coordinator_address": "here:1", "num_processes": 2, "process_id": 2},
            "--process_id: expected less than --num_processes, 2; got 2",
        ),
        ({"coordinator_address": "here:1"}, "with --num_processes and --process_id"),
    ],
)
def test_what_cannot_be_is_refused(given, told):
    with pytest.raises(InputError, match=re.escape(told)):
        open_mesh(MeshOptions(**given))


def test_what_the_mesh_cannot_share_out_is_refused(tmp_path):
    with pytest.raises(InputError, match="--mesh: expected a number of devices for the lanes that divides --lanes, 5; got 2"):
        trained(tmp_path, "data:2", lanes=5)
    with pytest.raises(InputError, match="--mesh: expected model:1 with --loss=full"):
        trained(tmp_path, "data:1,model:2", loss="full")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def train_command(dataset, workdir, *arguments):
    small = ("--units=16", "--embedding_dim=8", "--n_sample=16", "--lanes=8", "--report_updates=20")
    return line("train", f"--dataset={dataset}", f"--workdir={workdir}", *small, *arguments)


def start_processes(arguments, devices=2, second=()):
    """Two real processes with some devices each; `second` are arguments of the second alone."""
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    meet = (f"--coordinator_address=localhost:{free_port()}", "--num_processes=2")
    own = [(f"--process_id={number}", *(second if number else ())) for number in range(2)]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen([*arguments, *meet, *one], env=os.environ | flags, **piped) for one in own]


def test_two_processes_train_what_one_trains_and_go_on_when_one_dies(tmp_path):
    write_log(tmp_path / "log.tsv", rows=4_000)
    dataset = tmp_path / "dataset"
    assert command("prepare", f"--input={tmp_path / 'log.tsv'}", f"--dataset={dataset}").returncode == 0
    arguments = partial(train_command, dataset)
    assert run(arguments(tmp_path / "one", "--epochs=2")).returncode == 0
    together = start_processes(arguments(tmp_path / "two", "--epochs=2", f"--mesh={DATA}:2,{MODEL}:2"))
    said = [process.communicate(timeout=300) for process in together]
    assert [process.returncode for process in together] == [0, 0], said
    assert "events/s" in said[0][0] and "events/s" not in said[1][0], "the first process speaks for all"
    one, two = (tmp_path / name / "train" for name in ("one", "two"))
    np.testing.assert_allclose(losses(two / "metrics.jsonl"), losses(one / "metrics.jsonl"), rtol=1e-3)
    results = [json.loads((folder / "metrics.json").read_text()) for folder in (one, two)]
    assert results[0]["mrr@20"] == pytest.approx(results[1]["mrr@20"], abs=1e-3)
    used = command("evaluate", f"--dataset={dataset}", f"--workdir={tmp_path / 'two'}", "--model=global")
    assert used.returncode == 0, f"what was trained on four devices is used on one: {used.stderr}"
    evaluated = json.loads((tmp_path / "two/evaluation/metrics.json").read_text())
    assert json.dumps(evaluated).count("mrr@20") and f"{results[1]['mrr@20']:.4f}" in used.stdout + json.dumps(evaluated)

    unlike = start_processes(arguments(tmp_path / "unlike", "--epochs=2"), second=("--learning_rate=0.5",))
    _, told = unlike[1].communicate(timeout=120)
    unlike[0].kill()  # it would wait half a minute for the other
    unlike[0].communicate(timeout=10)
    assert unlike[1].returncode == 1
    assert "expected the same options in all processes; got other ones here (--learning_rate: 0.1 there, 0.5 now)" in told

    long = ("--epochs=4", "--validation_fraction=0", "--checkpoint_updates=40")
    dying = start_processes(arguments(tmp_path / "dies", *long))
    lines = tmp_path / "dies/train/final/metrics.jsonl"
    deadline = time.monotonic() + 120
    while dying[0].poll() is None and time.monotonic() < deadline and not (lines.exists() and lines.read_text().count("\n") > 4):
        time.sleep(0.05)
    dying[1].send_signal(signal.SIGKILL)
    _, told = dying[0].communicate(timeout=120)
    dying[1].communicate(timeout=10)
    ours = r"error: final: another process has ended .* the checkpoint after update \d+ is kept; start all of them again"
    # Where a message between processes hangs, JAX notices first, says so and ends the process.
    assert dying[0].returncode != 0 and re.search(ours + "|another task died", told), told
    again = run(arguments(tmp_path / "dies", *long))
    assert again.returncode == 0 and "going on after update" in again.stderr, again.stderr
    assert final_params(tmp_path / "dies")
