"""Evaluation as a stage: the options of ranking, and what a lower precision of scores changes."""

import numpy as np
import pytest
from world import dataset_of, random_sessions, written

from jaxrec.errors import InputError
from jaxrec.evaluation.networks import in_bfloat16
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, Recipe, RunOptions
from jaxrec.models.recommender import ModelOptions
from jaxrec.stages.evaluate import EvaluateOptions, run_evaluate, scorer
from jaxrec.stages.train import rank, run_train

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
    exact = run_evaluate(dataset, workdir, names, overwrite=True)
    found = run_evaluate(dataset, workdir, names, EvaluateOptions(scoring="bfloat16"), overwrite=True)
    ranks = [rank(one, dataset, dataset.period("test")).values() for one in (given, in_bfloat16(given))]
    assert found["global"]["ranks_changed"] == np.mean(ranks[0] != ranks[1]) > 0
    assert found["global"]["mrr@20"] == pytest.approx(np.mean(np.where(ranks[1] <= 20, 1 / ranks[1], 0)))
    assert "ranks_changed" not in exact["global"] | found["markov"], "in float32 and without a network nothing is rounded"
    assert found["markov"] == exact["markov"]
    assert (exact["settings"]["scoring"], found["settings"]["scoring"]) == ("float32", "bfloat16")


@pytest.mark.parametrize("wrong", [{"ties": "best"}, {"scoring": "float16"}])
def test_an_unknown_way_to_rank_is_refused(wrong):
    with pytest.raises(InputError, match=f"--{next(iter(wrong))}: expected one of"):
        EvaluateOptions(**wrong)
