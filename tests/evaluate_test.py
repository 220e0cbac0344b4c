"""Evaluation as a stage: what it keeps, the options of ranking, what a lower precision changes, and sessions out of their period."""

import dataclasses
import shutil

import numpy as np
import pytest
from world import dataset_of, random_sessions, written

from jaxrec.baselines.registry import BASELINES
from jaxrec.compression.rows import ENCODINGS
from jaxrec.errors import InputError
from jaxrec.evaluation.groups import by_group
from jaxrec.evaluation.intervals import ci95, cluster_sums
from jaxrec.evaluation.metrics import metrics
from jaxrec.evaluation.networks import GlobalScorer
from jaxrec.files import read_json, write_json
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, Recipe, RunOptions
from jaxrec.models.recommender import ModelOptions
from jaxrec.report.models import evaluated
from jaxrec.stages import evaluate as module
from jaxrec.stages import once as once_module
from jaxrec.stages.evaluate import EvaluateOptions, ranks_file, run_evaluate, scorer
from jaxrec.stages.personalize import RESULT as PERSONAL
from jaxrec.stages.precision import at_precision
from jaxrec.stages.store import read_ranks
from jaxrec.stages.train import load_trained, rank, run_train

N_ITEMS = 300
RECIPE = Recipe(LossOptions(n_sample=4), OptimizerOptions(), RunOptions(epochs=1, lanes=4, validation_fraction=0.0))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(dataset, workdir) of a model that knows next to nothing: its scores lie close together."""
    workdir = tmp_path_factory.mktemp("run")
    items, offsets = random_sessions(sessions=60, n_items=N_ITEMS)
    sessions = [part.tolist() for part in np.split(items, offsets[1:-1])]
    dataset = written(dataset_of(sessions, [0] * 60, (30, 30), n_items=N_ITEMS), workdir / "dataset")
    run_train(dataset, workdir, ModelOptions(units=(4,), embedding_dim=4), RECIPE)
    return dataset, workdir


def test_bfloat16_reports_the_share_of_ranks_that_it_changes(trained):
    dataset, workdir = trained
    names, given = ("global", "markov"), scorer("global", dataset, workdir)
    exact = run_evaluate(dataset, workdir, EvaluateOptions(model=names), overwrite=True)
    found = run_evaluate(dataset, workdir, EvaluateOptions(model=names, scoring="bfloat16"), overwrite=True)
    ranks = [rank(one, dataset, dataset.period("test")).values() for one in (given, at_precision(given, "bfloat16"))]
    assert found["global"]["ranks_changed"] == np.mean(ranks[0] != ranks[1]) > 0
    assert found["global"]["mrr@20"] == pytest.approx(np.mean(np.where(ranks[1] <= 20, 1 / ranks[1], 0)))
    assert "ranks_changed" not in exact["global"] | found["markov"], "in float32 and without a network nothing is rounded"
    assert found["markov"] == exact["markov"]
    np.testing.assert_array_equal(read_ranks(ranks_file(workdir, "global"))["global"].values(), ranks[1])
    assert (exact["settings"]["scoring"], found["settings"]["scoring"]) == ("float32", "bfloat16")


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_device_s_precision_is_that_of_its_rows(trained, precision):
    dataset, workdir = trained
    found = run_evaluate(dataset, workdir, EvaluateOptions(model=("global", "markov"), scoring=precision), overwrite=True)
    given = scorer("global", dataset, workdir)
    rows = ENCODINGS[precision](np.asarray(given.params["item_table"])).decoded()
    expected = rank(dataclasses.replace(given, params={**given.params, "item_table": rows}), dataset, dataset.period("test"))
    np.testing.assert_array_equal(read_ranks(ranks_file(workdir, "global"))["global"].values(), expected.values())
    assert found["global"]["ranks_changed"] > 0 and "ranks_changed" not in found["markov"]


def test_a_device_s_precision_spares_what_devices_train(trained, tmp_path):
    dataset, _ = trained
    workdir = shutil.copytree(trained[1], tmp_path / "run")
    one = load_trained(workdir, dataset)
    settings = {"trainable": "dense", "adapter_rank": 0}
    write_json(workdir / PERSONAL, {"inputs": {"model": one.fingerprint}, "settings": settings})
    run_evaluate(dataset, workdir, EvaluateOptions(model=("global",), scoring="int8"), overwrite=True)
    found = read_ranks(ranks_file(workdir, "global"))["global"].values()
    by_part = [at_precision(GlobalScorer(model, one.params), "int8") for model in (one.trains("dense", 0).model, one.model)]
    expected, other = (rank(given, dataset, dataset.period("test")).values() for given in by_part)
    np.testing.assert_array_equal(found, expected)
    assert (expected != other).any(), "or the law is empty"


def test_what_is_kept_gives_the_figures_again(trained):
    dataset, workdir = trained
    found = run_evaluate(dataset, workdir, EvaluateOptions(model=("global", "markov"), ties="median"), overwrite=True)
    for name in ("global", "markov"):
        ranks = read_ranks(ranks_file(workdir, name))[name]
        assert {column.dtype for column in vars(ranks).values()} == {np.dtype(np.int32)}
        assert found[name].items() >= metrics(ranks, "median").items()
        assert found[name]["ci95"] == ci95(cluster_sums(ranks, "median"))
        assert found[name]["groups"] == by_group(dataset, ranks, "median")
        assert found[name]["lists"] == found[name]["predictions"], "so few are all listed"
        assert found[name]["clusters"] == 1, "all sessions are one user's"


def test_ranks_of_models_that_are_no_longer_asked_for_are_removed(trained):
    dataset, workdir = trained
    for name in ("markov", "popularity"):
        run_evaluate(dataset, workdir, EvaluateOptions(model=(name,)), overwrite=True)
        assert [path.name for path in workdir.glob("evaluation/ranks/*")] == [f"{name}.npz"]


def test_an_evaluation_that_fails_leaves_the_earlier_one(trained):
    dataset, workdir = trained
    run_evaluate(dataset, workdir, EvaluateOptions(model=("markov",)), overwrite=True)
    before = {path: path.read_bytes() for path in (workdir / "evaluation").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="expected a result of `personalize`"):
        run_evaluate(dataset, workdir, EvaluateOptions(model=("popularity", "personal")), overwrite=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BASELINES, "item_knn", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_evaluate(dataset, workdir, EvaluateOptions(model=("popularity", "item_knn")), overwrite=True)
    assert {path: path.read_bytes() for path in (workdir / "evaluation").rglob("*") if path.is_file()} == before


def test_no_earlier_figures_stand_beside_new_ranks(trained):
    dataset, workdir = trained
    run_evaluate(dataset, workdir, EvaluateOptions(model=("markov",)), overwrite=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(once_module, "write_json", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_evaluate(dataset, workdir, EvaluateOptions(model=("popularity",)), overwrite=True)
    assert ranks_file(workdir, "popularity").exists() and not (workdir / "evaluation/metrics.json").exists()


def test_a_sample_of_lists_is_counted(trained):
    dataset, workdir = trained
    found = run_evaluate(dataset, workdir, EvaluateOptions(model=("popularity",), listed_predictions=50), overwrite=True)["popularity"]
    assert 25 <= found["lists"] <= 75 < found["predictions"]
    assert found["coverage@20"] == 20 / N_ITEMS, "popularity recommends the same to everyone"


def test_the_trained_model_is_loaded_once(trained, monkeypatch):
    dataset, workdir = trained
    loads = []
    monkeypatch.setattr(module, "load_trained", lambda *given: loads.append(given) or load_trained(*given))
    run_evaluate(dataset, workdir, EvaluateOptions(model=("global", "markov")), overwrite=True)
    assert len(loads) == 1


@pytest.mark.parametrize(("cut", "period", "wrong"), [(1, "test", 30), (-1, "test", 29)])
def test_a_session_outside_its_period_is_named(trained, cut, period, wrong):
    """The test begins with session 30; a cut a second off leaves that session, or the one before, on the wrong side."""
    dataset, workdir = trained
    start = int(dataset.times[dataset.offsets[30 if cut > 0 else 29]]) + (1 if cut > 0 else 0)
    moved = dataclasses.replace(dataset, manifest=dataset.manifest | {"cuts": {"personal_from": None, "test_from": start}})
    with pytest.raises(InputError, match=rf"expected the {period} period to begin at .* with session 30; got session {wrong} at 1970"):
        run_evaluate(moved, workdir, EvaluateOptions(model=("markov",)), overwrite=True)


def test_the_tables_show_every_model_and_metric(trained):
    dataset, workdir = trained
    found = run_evaluate(dataset, workdir, EvaluateOptions(model=("global", "markov")), overwrite=True)
    text = evaluated({name: found[name] for name in ("global", "markov")})
    found = read_json(workdir / "evaluation/metrics.json", "evaluation")["markov"]
    low, high = found["ci95"]["recall@20"]
    assert f"| markov | {found['recall@20']:.4f} [{low:.4f}, {high:.4f}] |" in text
    assert all(f"| {name} " in text for name in ("Recall@50", "NDCG@5", "hot targets", "position 3-4"))
    assert f"{found['groups']['cold_targets']['recall@20']:.4f}" in text


@pytest.mark.parametrize("wrong", [{"ties": "best"}, {"scoring": "float8"}])
def test_an_unknown_way_to_rank_is_refused(wrong):
    with pytest.raises(InputError, match=f"--{next(iter(wrong))}: expected one of"):
        EvaluateOptions(**wrong)
