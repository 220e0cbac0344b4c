"""What takes too long for every day: many kills, long soaks, big logs. `make test-long` runs it."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import command, line
from device_world import OPTIONS, RULES, exported, functions, random_block, random_model
from train_test import final_params, run, train_command, write_log

from jaxrec.data.blocks import Block
from jaxrec.device.runtime import DeviceModel
from jaxrec.learning.step import init_state
from jaxrec.models.leaves import named

pytestmark = pytest.mark.long


def kill_after(arguments: list[str], seconds: float) -> int | None:
    """Start a command and kill it with SIGKILL after some seconds; its exit code if it ended before."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def test_training_killed_at_random_again_and_again_ends_bit_identical(tmp_path):
    write_log(tmp_path / "log.tsv")
    dataset, chance = tmp_path / "dataset", random.Random(0)
    assert command("prepare", f"--input={tmp_path / 'log.tsv'}", f"--dataset={dataset}").returncode == 0
    began = time.monotonic()
    assert run(train_command(dataset, tmp_path / "whole", epochs=20)).returncode == 0
    seconds, kills = time.monotonic() - began, 0
    for _ in range(40):
        if kill_after(train_command(dataset, tmp_path / "killed", epochs=20), chance.uniform(0.2, 0.4) * seconds) is None:
            kills += 1
        else:
            break
    assert kills >= 3, "too few kills to say anything; make the run longer"
    assert run(train_command(dataset, tmp_path / "killed", epochs=20)).returncode == 0
    assert final_params(tmp_path / "killed") == final_params(tmp_path / "whole")


SMALL = ("--shop_users=200", "--shop_departments=8", "--units=24", "--embedding_dim=16", "--n_sample=64", "--epochs=4")


def experiment(workdir: Path) -> list[str]:
    return line("experiment", f"--workdir={workdir}", *SMALL, "--personal_learning_rates=0.01", "--measure_calls=20")


def figures(workdir: Path) -> dict:
    report = json.loads((workdir / "report.json").read_text())
    personal = {name: report["personal"][name] for name in ("before", "fine_tuned", "after", "baselines", "users_worse")}
    return {"recall@20": report["global"]["recall@20"], **personal, "bytes": report["device"]["model_bytes"]}


def test_the_whole_job_killed_at_random_gives_the_same_report_and_never_a_half_file(tmp_path):
    chance = random.Random(1)
    assert run(experiment(tmp_path / "whole")).returncode == 0
    for _ in range(8):
        ended = kill_after(experiment(tmp_path / "killed"), chance.uniform(4, 20))
        for path in (tmp_path / "killed").rglob("*.json"):
            if "partial" not in str(path) and "tmp" not in str(path):
                json.loads(path.read_text())
        assert ended in (None, 0)
    assert run(experiment(tmp_path / "killed")).returncode == 0
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")


def test_two_million_rows_are_prepared(tmp_path):
    generator = np.random.default_rng(0)
    rows = 2_000_000
    users, items = np.sort(generator.integers(0, 20_000, rows)), generator.zipf(1.3, rows) % 200_000
    times = 1_511_539_200 + generator.integers(0, 9 * 86_400, rows)
    with (tmp_path / "log.csv").open("w") as file:
        for start in range(0, rows, 100_000):
            part = zip(users[start : start + 100_000], items[start : start + 100_000], times[start : start + 100_000], strict=True)
            file.write("".join(f"{user},{item},{item % 500},pv,{time}\n" for user, item, time in part))
    done = command("prepare", f"--input={tmp_path / 'log.csv'}", f"--dataset={tmp_path / 'dataset'}")
    assert done.returncode == 0, done.stderr
    assert "rows read              2,000,000" in done.stdout


SOAK = """
import resource, sys
import numpy as np
from jaxrec.device.runtime import DeviceModel
device = DeviceModel.load(sys.argv[1])
generator = np.random.default_rng(0)
def update():
    return device.train_on(generator.integers(0, 50, (8, 9)).tolist(), 0.01)
for _ in range(100): update()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(1000): update()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, all(np.isfinite(part).all() for part in device.state.values()))
"""


def test_a_thousand_updates_on_the_device_do_not_grow_in_memory(tmp_path):
    assert run(experiment(tmp_path)).returncode == 0
    done = subprocess.run([sys.executable, "-c", SOAK, str(tmp_path / "device")], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    grown, finite = done.stdout.split()
    assert int(grown) < 2048, f"{grown} KiB more after a thousand updates"
    assert finite == "True"


def test_a_thousand_updates_stay_with_those_of_jax():
    """Both sides go on from their own parameters, so errors may add up."""
    pytest.importorskip("ai_edge_litert")
    learn, device = functions("layers")["train"], DeviceModel.load(exported("layers"))
    model, params = random_model("layers")
    personal, generator = model.split(params)[1], np.random.default_rng(0)
    state = {"personal": personal, "optimizer": init_state(RULES["layers"], personal).optimizer}
    hidden = jax.tree.map(np.asarray, model.zero_hidden(OPTIONS.train_rows))
    for _ in range(1000):
        items, mask, negatives = random_block(generator)
        block = Block(items, mask, np.zeros_like(mask))
        want = learn(**state, **block._asdict(), hidden=hidden, negatives=negatives, learning_rate=np.float32(0.01))
        device.update(block, named({"hidden": hidden}), negatives, 0.01)
        state = {part: want[part] for part in state}
    worst = max(np.abs(device.state[name] - leaf).max() for name, leaf in named({"personal": state["personal"]}).items())
    moved = max(np.abs(device.state[name] - leaf).max() for name, leaf in named({"personal": personal}).items())
    print(f"after 1,000 updates {worst:.1e} from JAX; the parameters moved by {moved:.1e}")
    assert worst <= 1e-3 < moved
