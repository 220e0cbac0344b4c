"""Logs that are small or odd but right: training and personalisation end with a result or one clear line."""

import dataclasses
import shutil

import numpy as np
import pytest
from world import dataset_of, written

from jaxrec.baselines.registry import BASELINES
from jaxrec.data.blocks import session_blocks
from jaxrec.errors import InputError
from jaxrec.learning.personal_recipe import PersonalOptions, PersonalRecipe
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, Recipe, RunOptions
from jaxrec.models.recommender import ModelOptions
from jaxrec.stages.evaluate import MODELS, EvaluateOptions, run_evaluate
from jaxrec.stages.personalize import run_personalize
from jaxrec.stages.train import run_train

MODEL = ModelOptions(units=(4,), embedding_dim=4)
RECIPE = Recipe(LossOptions(n_sample=4), OptimizerOptions(), RunOptions(epochs=3, lanes=2))
PERSONAL = PersonalRecipe(PersonalOptions(personal_n_sample=4, personal_learning_rates=(0.01,), personal_epochs=1))


def whole_job(dataset, workdir, model=MODEL):
    run_train(dataset, workdir, model, RECIPE)
    found = run_evaluate(dataset, workdir, EvaluateOptions(model=("global", "markov_user_history")))
    return found, run_personalize(dataset, workdir, PERSONAL)


@pytest.mark.parametrize(
    ("sessions", "users", "periods"),
    [
        ([[0, 1], [1, 2]], [0, 0], (1, 1)),  # one global session: nothing is left to validate by
        ([[0, 1, 2]] * 12 + [[0, 1, 2]], [0] * 12 + [1], (12, 12)),  # a solved world, ties in validation; the test user is new
        ([[0, 1]] * 20 + [[1, 0]], [0] * 21, (20, 21)),  # nothing in the test period
    ],
    ids=["one session", "new users only", "no test"],
)
def test_a_small_log_goes_through(tmp_path, sessions, users, periods):
    dataset = written(dataset_of(sessions, users, periods, n_items=3), tmp_path / "dataset")
    found, personal = whole_job(dataset, tmp_path)
    assert found["global"]["predictions"] == personal["predictions"] == sum(len(one) - 1 for one in sessions[periods[1] :])
    assert personal["users_better"] + personal["users_same"] + personal["users_worse"] == pytest.approx(1)


def test_validation_that_ties_keeps_the_first_of_the_best_epochs(tmp_path):
    dataset = written(dataset_of([[i % 3, (i + 1) % 3] for i in range(40)], [0] * 40, (38, 38), n_items=3), tmp_path / "dataset")
    result = run_train(dataset, tmp_path, MODEL, dataclasses.replace(RECIPE, run=RunOptions(epochs=6, lanes=4)))
    scores = [entry["mrr@20"] for entry in result["validation"]]
    assert result["epochs"] == int(np.argmax(scores)) + 1


def test_sessions_of_one_event_alone_are_refused(tmp_path):
    dataset = written(dataset_of([[0], [1], [2]], [0, 1, 2], (2, 2), n_items=3), tmp_path / "dataset")
    with pytest.raises(InputError, match="expected a session of at least 2 events"):
        run_train(dataset, tmp_path, MODEL, RECIPE)


def test_training_that_never_began_is_no_hindrance(tmp_path):
    dataset = written(dataset_of([[0, 1, 2]] * 9, [0] * 9, (6, 8), n_items=3), tmp_path / "dataset")
    with pytest.raises(InputError, match="is not finite"):
        run_train(dataset, tmp_path, MODEL, dataclasses.replace(RECIPE, optimizer=OptimizerOptions(learning_rate=1e30)))
    assert run_train(dataset, tmp_path, MODEL, RECIPE)["updates"] > 0
    for checkpoints in tmp_path.glob("train/*/checkpoints"):
        shutil.rmtree(checkpoints)
    with pytest.raises(InputError, match=r"was made otherwise .*--overwrite"):
        run_train(dataset, tmp_path, MODEL, dataclasses.replace(RECIPE, optimizer=OptimizerOptions(learning_rate=0.2)))


def test_every_baseline_takes_sessions_without_a_pair(tmp_path):
    dataset = written(dataset_of([[0, 1, 2], [1]] * 9, [0] * 18, (12, 16), n_items=3), tmp_path / "dataset")
    names = tuple(name for name in MODELS if name not in ("global", "personal", "als", "als_session", "bpr_mf"))
    found = run_evaluate(dataset, tmp_path, EvaluateOptions(model=names))
    assert all(found[name]["predictions"] == 2 for name in names)


def test_a_model_of_another_dataset_is_refused(tmp_path):
    first = written(dataset_of([[0, 1, 2]] * 9, [0] * 9, (6, 8), n_items=3), tmp_path / "first")
    second = written(dataset_of([[2, 1, 0]] * 9, [0] * 9, (6, 8), n_items=3), tmp_path / "second")
    run_train(first, tmp_path, MODEL, RECIPE)
    with pytest.raises(InputError, match="trained on another dataset"):
        run_personalize(second, tmp_path, PERSONAL)


def test_personal_models_of_an_earlier_global_model_are_refused(tmp_path):
    dataset = written(dataset_of([[0, 1, 2]] * 9, [0] * 9, (6, 8), n_items=3), tmp_path / "dataset")
    whole_job(dataset, tmp_path)
    run_train(dataset, tmp_path, MODEL, dataclasses.replace(RECIPE, run=RunOptions(epochs=2, lanes=2, seed=5)), overwrite=True)
    with pytest.raises(InputError, match="started from another one"):
        run_evaluate(dataset, tmp_path, EvaluateOptions(model=("personal",)), overwrite=True)


def test_references_are_named_where_they_were_ranked_alone(tmp_path):
    dataset = written(dataset_of([[0, 1, 2]] * 9, [0] * 9, (6, 8), n_items=3), tmp_path / "dataset")
    whole_job(dataset, tmp_path)
    more = {"another": BASELINES["markov"](dataset, dataset.period("global"))}
    run_personalize(dataset, tmp_path, PERSONAL, overwrite=True, references=more)
    kept = run_personalize(dataset, tmp_path, PERSONAL)
    assert kept["inputs"]["references"] == "another", "it holds all that is asked for"
    other = dataclasses.replace(PERSONAL, training=dataclasses.replace(PERSONAL.training, personal_seed=3))
    assert run_personalize(dataset, tmp_path, other, overwrite=True)["inputs"]["references"] == ""


def test_a_history_holds_no_click_that_comes_later_than_the_session(tmp_path):
    """Session 0 starts first and goes on after session 1 has started."""
    dataset = dataset_of([[0, 1], [2, 2]], [0, 0], (1, 1), n_items=3)
    overlapping = dataclasses.replace(dataset, times=np.array([0, 1000, 10, 20]))
    (block,) = session_blocks(overlapping, [1])
    assert (block.history_items[0].tolist(), block.history_counts[0].tolist()) == ([0], [1])
