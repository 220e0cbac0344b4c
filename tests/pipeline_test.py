"""The whole job by its command: simulated shop -> dataset -> global and personal models -> model.tflite -> report."""

import tflite_needed  # noqa: F401, I001

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import line

from jaxrec.data.blocks import Histories, session_blocks
from jaxrec.data.dataset import PERIODS
from jaxrec.data.own_history import past_of, popularity
from jaxrec.data.storage import load_dataset
from jaxrec.device.runtime import DeviceModel
from jaxrec.evaluation.networks import GlobalScorer, WithHistory
from jaxrec.report.account import commands
from jaxrec.stages.evaluate import scorer
from jaxrec.stages.train import load_trained

SHOP = ("--shop_users=250", "--shop_departments=8", "--shop_items_per_department=25", "--shop_sessions_per_user=16")
MODEL = ("--units=32", "--embedding_dim=24", "--n_sample=64", "--epochs=8", "--personal_n_sample=64", "--learning_rate=0.2", "--lanes=16")
SMALL = (*SHOP, *MODEL, "--personal_learning_rates=0.003,0.01", "--measure_calls=20", "--train_rows=2", "--train_steps=4")

# Every key that a check may read (the report's contract).
KEYS = {
    "dataset": ["events", "sessions", "users", "items"],
    "global": ["recall@20", "mrr@20", "predictions", "train_events_per_s", "train_seconds"],
    "personal": [
        *("users", "users_trained", "users_per_s", "predictions", "personal_bytes_per_user", "before", "after", "fine_tuned", "baselines"),
        *("gain_ci95", "users_better", "users_same", "users_worse", "users_fallback"),
    ],
    "device": [
        *("model_bytes", "recommend_p50_ms", "recommend_p95_ms", "recommend_call_p50_ms", "step_p50_ms", "train_p50_ms"),
        *("recommend_max_abs_error", "train_max_abs_error", "peak_rss_mb", "threads"),
    ],
    "environment": ["versions", "device", "cpu_count", "stage_seconds"],
}


def experiment(workdir: Path, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(line("experiment", f"--workdir={workdir}", *SMALL, *more), capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    done = experiment(folder)
    assert done.returncode == 0, done.stderr
    assert str(folder / "report.html") in done.stdout
    return folder


@pytest.fixture(scope="module")
def report(workdir) -> dict:
    return json.loads((workdir / "report.json").read_text())


def test_the_report_has_every_key_and_its_parts_agree(report):
    for part, keys in KEYS.items():
        assert not set(keys) - set(report[part]), f"missing in {part}"
    personal = report["personal"]
    assert personal["users_better"] + personal["users_same"] + personal["users_worse"] == pytest.approx(1)
    assert personal["predictions"] == report["global"]["predictions"]
    assert personal["before"]["recall@20"] == pytest.approx(report["global"]["recall@20"])
    assert set(personal["baselines"]) == {"markov", "user_history", "markov_user_history"}
    assert report["device"]["recommend_max_abs_error"] <= 1e-5 and report["device"]["train_max_abs_error"] <= 1e-4


def test_personal_models_recover_a_good_part_of_what_the_clicks_can_give(report):
    """The shop's best ranker that knows a user's clicks is exact: what it gains over the global model is all there is to win."""
    personal = report["personal"]
    before, after = (personal[name]["recall@20"] for name in ("before", "after"))
    best = personal["attainable"]["best_from_history"]["recall@20"]
    assert personal["gain_ci95"]["recall@20"][0] > 0
    assert personal["attainable"]["recovered"] == pytest.approx((after - before) / (best - before))
    assert after <= best + 0.01
    assert personal["attainable"]["recovered"] >= 0.4


def test_periods_hold_in_what_was_written(workdir):
    dataset = load_dataset(workdir / "dataset")
    starts = dataset.times[dataset.offsets[:-1]]
    cuts = dataset.manifest["cuts"]
    by_period = {name: starts[list(dataset.period(name))] for name in PERIODS}
    assert by_period["global"].max() < cuts["personal_from"] <= by_period["personal"].min()
    assert by_period["personal"].max() < cuts["test_from"] <= by_period["test"].min()


def test_the_table_of_users_adds_up_to_the_report(workdir, report):
    table = pd.read_parquet(workdir / "personal/users.parquet")
    assert len(table) == report["personal"]["users"] == table["user"].nunique()
    for name in ("before", "fine_tuned", "after"):
        total = (table[f"{name}_recall@20"] * table["predictions"]).sum() / table["predictions"].sum()
        assert total == pytest.approx(report["personal"][name]["recall@20"])
    assert (table["after_recall@20"] > table["before_recall@20"]).mean() == pytest.approx(report["personal"]["users_better"])


def test_the_shipped_file_gives_the_user_vectors_that_were_evaluated(workdir):
    dataset = load_dataset(workdir / "dataset")
    trained = load_trained(workdir, dataset)
    device = DeviceModel.load(workdir / "device")
    session = dataset.session(dataset.period("test").start)
    found = device.recommend(np.asarray(session[:-1]), np.arange(50))
    encoded = trained.model.encode(
        trained.params,
        trained.params["item_table"][np.asarray(session[:-1])],
        trained.model.zero_hidden(),
        np.arange(len(session) - 1) == 0,
    )[0][-1]
    np.testing.assert_allclose(found.user_vector, encoded, atol=1e-5)


def test_the_shipped_file_ranks_with_own_history_as_was_evaluated(workdir, report):
    dataset, history = load_dataset(workdir / "dataset"), report["personal"]["history"]
    assert any(history)
    trained, candidates = load_trained(workdir, dataset), np.arange(100)
    ranker = WithHistory(GlobalScorer(trained.model, trained.params), history, popularity(dataset.item_counts))
    device = DeviceModel.load(workdir / "device")
    for number in dataset.period("test")[:5]:
        (block,) = session_blocks(dataset, [number], predictions=1)
        scores = np.asarray(ranker.scores(ranker.encode(block), 0, dataset.n_items))[block.mask.sum() - 1, candidates]
        earlier = Histories(dataset).sessions_of(dataset.users[number], number)
        past = past_of([dataset.session(one) for one in earlier])
        found = device.recommend(dataset.session(number)[:-1], candidates, past)
        assert len(earlier) and len(past.items)
        np.testing.assert_allclose(found.scores, -np.sort(-scores)[: len(found.scores)], atol=1e-4)


def test_what_devices_ship_can_be_evaluated_from_the_store(workdir, report):
    from jaxrec.evaluation.metrics import metrics
    from jaxrec.stages.train import rank

    dataset = load_dataset(workdir / "dataset")
    found = metrics(rank(scorer("personal", dataset, workdir), dataset, dataset.period("test")))
    assert found["recall@20"] == pytest.approx(report["personal"]["after"]["recall@20"])


@pytest.mark.parametrize("stage", ["prepare", "measure"])
def test_the_commands_of_the_report_run_when_pasted(workdir, report, stage):
    lines = {line.split()[2]: line for line in commands(report)}
    paths = {"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(lines[f"launch.{stage}"], shell=True, cwd=workdir, env=os.environ | paths, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.rstrip().endswith("kept"), done.stderr


def test_a_second_run_keeps_everything_and_other_options_need_overwrite(workdir):
    before = {path: path.read_bytes() for path in (workdir / "train/metrics.json", workdir / "device/model.tflite")}
    again = experiment(workdir)
    assert again.returncode == 0 and again.stderr.count("kept") >= 6, again.stderr
    assert {path: path.read_bytes() for path in before} == before
    other = experiment(workdir, "--personal_epochs=1")
    assert other.returncode == 1 and "--personal_epochs" in other.stderr and "--overwrite" in other.stderr
