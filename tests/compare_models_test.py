"""Models of several runs: told apart, refused where they do not compare, real differences named, spread over seeds."""

import dataclasses
import re
import shutil

import numpy as np
import pytest
from commands import command
from report_test import change, curve, fake_run, fake_training, put
from world import dataset_of, random_sessions, written

from jaxrec.errors import InputError
from jaxrec.files import read_json
from jaxrec.stages.compare_models import compare_models
from jaxrec.stages.evaluate import EvaluateOptions, ranks_file, run_evaluate
from jaxrec.stages.store import read_ranks, write_ranks

MODELS = ("popularity", "markov")


def dataset_in(folder, seed):
    items, offsets = random_sessions(seed, sessions=80)
    sessions = [part.tolist() for part in np.split(items, offsets[1:-1])]
    return written(dataset_of(sessions, None, (40, 40)), folder)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """(dataset, folder of an evaluated run)."""
    folder = tmp_path_factory.mktemp("run")
    dataset = dataset_in(folder / "data", 0)
    run_evaluate(dataset, folder / "run", EvaluateOptions(model=MODELS))
    return dataset, folder / "run"


@pytest.fixture
def runs(evaluated, tmp_path):
    """Two runs that differ by the seed of training alone; `markov` of the second ranks every target 25 places further down."""
    found = []
    for seed, name in enumerate("ab"):
        shutil.copytree(evaluated[1], tmp_path / name)
        put(tmp_path / name / "train/metrics.json", curve(0.2) | fake_training() | {"settings": {"seed": seed, "epochs": 5}})
        found.append(tmp_path / name)
    ranks = read_ranks(ranks_file(found[1], "markov"))["markov"]
    write_ranks(ranks_file(found[1], "markov"), {"markov": dataclasses.replace(ranks, greater=ranks.greater + 25)})
    change(found[1] / "evaluation/metrics.json", markov=evaluation(found[1])["markov"] | {"recall@20": 0.0})
    return found


def evaluation(run):
    return read_json(run / "evaluation/metrics.json", "evaluation")


def cells(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_a_model_that_ranks_alike_stands_once_and_others_name_their_run(runs):
    text = compare_models(runs).split("\n\n")[0]
    models = re.findall(r"^\| (\w+(?: \(\w\))?) ", text, re.MULTILINE)
    assert models == ["model", "popularity", "markov (a)", "markov (b)"], "best first"
    low, high = evaluation(runs[0])["markov"]["ci95"]["recall@20"]
    assert cells(text, "markov (a)")[0].endswith(f"[{low:.4f}, {high:.4f}]")
    assert cells(text, "markov (b)")[0].startswith("0.0000 [")


def test_real_differences_are_named(runs):
    text = compare_models(runs)
    difference, real, *_ = cells(text, "markov (a) less markov (b)")
    assert difference.startswith("+") and real == "yes"
    assert "Holm's correction for all 6 differences" in text, "three pairs by two metrics"
    assert "paired bootstrap draws from 40 users, or sessions" in text


def test_runs_that_differ_by_seeds_alone_are_averaged(runs):
    text = compare_models(runs)
    assert "over 2 runs that differ by their seeds alone (a, b)" in text
    first = evaluation(runs[0])["markov"]["recall@20"]
    assert f"{first / 2:.4f} ± {first / np.sqrt(2):.4f}" in text, "of first and 0: the mean, and the root of half the squared difference"
    change(runs[1] / "train/metrics.json", settings={"seed": 1, "epochs": 6})
    assert "seeds alone" not in compare_models(runs)


def test_one_run_alone_compares_its_own_models(evaluated):
    text = compare_models([evaluated[1]])
    assert len(cells(text, "markov")) == 7 and "less" in text and "seeds alone" not in text


def test_other_data_or_ties_are_refused(evaluated, runs, tmp_path):
    run_evaluate(dataset_in(tmp_path / "data", 1), tmp_path / "other", EvaluateOptions(model=MODELS))
    with pytest.raises(InputError, match=r"--runs: expected runs on one dataset; .*other was evaluated on another than .*a$"):
        compare_models([runs[0], tmp_path / "other"])
    run_evaluate(evaluated[0], tmp_path / "median", EvaluateOptions(model=MODELS, ties="median"))
    with pytest.raises(InputError, match=r"--ties=standard as .*; .*median was evaluated with median"):
        compare_models([runs[0], tmp_path / "median"])


def test_a_run_without_intervals_or_ranks_is_refused(runs):
    ranks_file(runs[0], "markov").unlink()
    with pytest.raises(InputError, match=r"markov\.npz: expected the ranks that `evaluate` keeps"):
        compare_models(runs)
    change(runs[0] / "evaluation/metrics.json", markov=curve(0.2))
    with pytest.raises(InputError, match="expected an evaluation with intervals"):
        compare_models(runs)
    shutil.rmtree(runs[0] / "evaluation")
    with pytest.raises(InputError, match="expected an evaluation with intervals"):
        compare_models(runs)


def test_ranks_of_other_predictions_are_refused(runs):
    path = ranks_file(runs[0], "markov")
    write_ranks(path, {"markov": read_ranks(path)["markov"].where(np.arange(5))})
    with pytest.raises(InputError, match="expected ranks of the same predictions"):
        compare_models(runs)


def test_the_command(runs, tmp_path):
    other = fake_run(tmp_path / "c", seed=2, epochs=5)
    done = command("compare", f"--workdir={other}", f"--runs={runs[0]},{runs[1]}")
    assert done.returncode == 0, done.stderr
    assert cells(done.stdout, "users: with a test prediction") == ["400", "–", "–"], "folders of both flags are compared as runs"
    assert "markov (a) less markov (b)" in done.stdout and "(c)" not in done.stdout, "those of --runs as models too"
