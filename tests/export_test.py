"""Exported folders: what stands in them, and that a model that does not compute what JAX computes never gets there."""

import tflite_needed  # noqa: F401, I001

import dataclasses
import importlib.metadata
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from device_world import ITEMS, OFFSETS, OPTIONS, RULES, WEIGHTS, export_to, random_model
from world import dataset_of, written

from jaxrec.data.own_history import FEATURES
from jaxrec.device import export as exporting
from jaxrec.device.convert import to_tflite
from jaxrec.device.parity import measure_parity
from jaxrec.device.runtime import DeviceModel
from jaxrec.device.signatures import ship, signatures
from jaxrec.errors import InputError
from jaxrec.files import sha256, write_json
from jaxrec.learning.personal_recipe import ChoiceOptions, PersonalOptions, PersonalRecipe, UserRunOptions
from jaxrec.learning.personalize import personal_sampler
from jaxrec.learning.step import Rule
from jaxrec.learning.recipe import LossOptions, Recipe, RunOptions
from jaxrec.models.leaves import named
from jaxrec.models.recommender import ModelOptions
from jaxrec.stages import export as stage
from jaxrec.stages.export import device_offsets, export_user, personalized
from jaxrec.stages.history import OFF
from jaxrec.stages.once import settings_of
from jaxrec.stages.personalize import STORE, run_personalize
from jaxrec.stages.store import chunk_folder, open_store
from jaxrec.stages.train import Trained, load_trained, run_train

FILES = ["manifest.json", "model.tflite", "personal.npz"]


def entries(name, change=lambda params: params, offsets=OFFSETS):
    model, params = random_model(name)
    return signatures(*ship(model, change(params), offsets, RULES[name], "float32"), OPTIONS)


@pytest.fixture(scope="module")
def flatbuffer():
    return to_tflite(entries("dense"))


def test_the_manifest_tells_what_was_exported(tmp_path):
    vocabulary = tmp_path / "vocabulary.parquet"
    vocabulary.write_bytes(b"names")
    model, params = random_model("dense")
    manifest = exporting.export(model, params, WEIGHTS, OFFSETS, OPTIONS, tmp_path / "device", RULES["dense"], vocabulary)
    folder = tmp_path / "device"
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert sorted(path.name for path in folder.iterdir()) == [*FILES, "vocabulary.parquet"]
    assert (folder / manifest["vocabulary"]).read_bytes() == b"names"
    assert manifest["sha256"] == sha256(folder / "model.tflite")
    assert manifest["model_bytes"] == (folder / "model.tflite").stat().st_size
    assert manifest["versions"]["jax"] == importlib.metadata.version("jax")
    assert (manifest["precision"], manifest["history"], manifest["items"]) == ("float32", dict(zip(FEATURES, WEIGHTS, strict=True)), ITEMS)
    assert 0 <= manifest["recommend_max_abs_error"] <= 1e-5
    assert 0 < manifest["train_max_abs_error"] <= 1e-4
    assert manifest["export_seconds"] > 0
    assert manifest["signatures"].keys() == {"recommend", "recommend_all", "step", "train"}
    assert manifest["signatures"]["recommend"]["outputs"]["user_vector"] == {"shape": [8], "dtype": "float32"}


def test_a_device_starts_from_the_global_model(tmp_path):
    export_to(tmp_path, "layers")
    model, params = random_model("layers")
    state, personal = DeviceModel.load(tmp_path).state, model.split(params)[1]
    np.testing.assert_array_equal(state["personal.last.w_in"], personal["last"]["w_in"])
    np.testing.assert_array_equal(state["personal.dense.kernel"], personal["dense"]["kernel"])
    assert all((part == 0).all() for name, part in state.items() if name.startswith("optimizer."))
    assert not any("lower" in name or "table" in name for name in state)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (lambda: entries("dense", change=lambda params: {**params, "item_table": params["item_table"] * np.float32(1.001)}), "recommend"),
        (lambda: entries("dense", offsets=OFFSETS[::-1]), "train"),
    ],
    ids=["table", "offsets"],
)
def test_parity_sees_small_changes(flatbuffer, changed, named):
    with pytest.raises(RuntimeError, match=f"export: {named} of the exported model differs from JAX"):
        measure_parity(changed(), ITEMS, flatbuffer)


def test_a_model_that_differs_is_not_written(flatbuffer, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "to_tflite", lambda _: flatbuffer)
    for name in FILES:
        (tmp_path / name).write_text("of an earlier export")
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(RuntimeError, match="differs from JAX"):
            export_to(folder, "dense", seed=1)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(FILES, "of an earlier export")


def test_an_interrupted_export_is_refused_by_the_runtime(tmp_path, monkeypatch):
    export_to(tmp_path, "dense")
    monkeypatch.setattr(exporting, "write_state", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_to(tmp_path, "dense", seed=1)
    with pytest.raises(InputError, match=r"manifest\.json: expected a device manifest"):
        DeviceModel.load(tmp_path)


def test_encoded_tables_rank_nearly_alike(tmp_path):
    found = {}
    for precision in ("float32", "float16", "int8"):
        assert export_to(tmp_path / precision, "dense", precision)["precision"] == precision
        found[precision] = DeviceModel.load(tmp_path / precision).recommend_all([1, 2, 3]).scores
    for precision, limit in (("float16", 2e-3), ("int8", 2e-2)):
        assert 0 < np.abs(found[precision] - found["float32"]).max() < limit


def test_offsets_are_those_of_the_simulation_for_the_devices_number_of_negatives():
    counts, personal = np.arange(1, 9), PersonalOptions()
    same = dataclasses.replace(OPTIONS, train_negatives=personal.personal_n_sample)
    np.testing.assert_array_equal(device_offsets(counts, same, personal), personal_sampler(counts, personal).drawn_offset)
    twice = dataclasses.replace(OPTIONS, train_negatives=2 * personal.personal_n_sample)
    np.testing.assert_allclose(device_offsets(counts, same, personal) - device_offsets(counts, twice, personal), np.log(2), rtol=1e-5)


TRAINED = Trained(None, None, None, 0, "a model")


def test_devices_learn_as_users_were_fine_tuned(tmp_path):
    assert personalized(tmp_path, TRAINED) == (PersonalOptions(), {"learning_rate": None, "epochs": None, "history": OFF})
    settings = settings_of(PersonalOptions(personal_optimizer="adam"))
    chosen = {"history": list(WEIGHTS), "learning_rate": 0.01, "epochs": 2, "inputs": {"model": "a model"}, "settings": settings}
    write_json(tmp_path / "personal" / "metrics.json", chosen)
    options, choice = personalized(tmp_path, TRAINED)
    assert (options.rule, choice["history"], choice["learning_rate"]) == (Rule(optimizer="adam", in_batch=False), list(WEIGHTS), 0.01)
    with pytest.raises(InputError, match="started from another one"):
        personalized(tmp_path, TRAINED._replace(fingerprint="another model"))


def test_without_users_there_is_no_history_prior(tmp_path):
    settings = settings_of(PersonalOptions())
    write_json(tmp_path / "personal" / "metrics.json", {"personal": None, "inputs": {"model": "a model"}, "settings": settings})
    assert personalized(tmp_path, TRAINED)[1]["history"] == OFF


def test_the_stage_exports_what_was_trained(tmp_path):
    dataset = written(dataset_of([[0, 1, 2], [3, 4, 5]] * 6, periods=(10, 10)), tmp_path / "dataset")
    model, recipe = ModelOptions(units=(4,), embedding_dim=4), Recipe(LossOptions(n_sample=4), run=RunOptions(epochs=1, lanes=2))
    run_train(dataset, tmp_path, model, recipe)
    manifest = stage.run_export(dataset, tmp_path, OPTIONS)
    assert manifest == stage.run_export(dataset, tmp_path, OPTIONS)
    assert DeviceModel.load(tmp_path / "device").manifest == manifest
    with pytest.raises(InputError, match="--top_k: 3 there, 4 now"):
        stage.run_export(dataset, tmp_path, dataclasses.replace(OPTIONS, top_k=4))
    run_train(dataset, tmp_path, model, dataclasses.replace(recipe, run=RunOptions(epochs=1, lanes=2, seed=1)), overwrite=True)
    with pytest.raises(InputError, match=r"the trained model: .* there"):
        stage.run_export(dataset, tmp_path, OPTIONS)


OWN, DISAGREED, NEW = 0, 1, 2
"""Users of the run below: one with a model of the own, one whose hold-out disagreed, one without a past."""
IDS = ["a/../b 1", "1", "new"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(dataset, workdir) of a run in which everything is exported, but for users."""
    workdir = tmp_path_factory.mktemp("run")
    sessions = [[0, 1, 2, 3], [3, 4, 5]] * 6
    dataset = written(dataset_of([*sessions, [1, 2]], [*([OWN, DISAGREED] * 6), NEW], (10, 12)), workdir / "dataset", IDS)
    personal = PersonalRecipe(PersonalOptions(personal_n_sample=4, adapter_rank=2), ChoiceOptions(holdout_fraction=0.0))
    run_train(dataset, workdir, *SMALL)
    run_personalize(dataset, workdir, personal)
    stage.run_export(dataset, workdir, OPTIONS)
    chunk = chunk_folder(workdir / STORE, 0)
    np.save(chunk / "improved.npy", np.load(chunk / "users.npy") == OWN)
    return dataset, workdir


SMALL = (ModelOptions(units=(4,), embedding_dim=4), Recipe(LossOptions(n_sample=4), run=RunOptions(epochs=1, lanes=2)))


def test_a_user_s_device_starts_from_the_stored_parameters(run):
    dataset, workdir = run
    path, own = export_user(dataset, workdir, IDS[OWN])
    assert (path, own) == (workdir / "device" / "users" / "a%2F..%2Fb%201.npz", True)
    device = DeviceModel.load(workdir / "device")
    before = device.state
    device.restore(path)
    trained = load_trained(workdir, dataset).trains("last_gru+dense", 2)
    stored = named(open_store(workdir / STORE, trained.model.split(trained.params)[1]).params(np.array([OWN])))
    assert {f"personal.{name}" for name in stored} == {name for name in device.state if name.startswith("personal.")}
    for name, leaf in stored.items():
        np.testing.assert_array_equal(device.state[f"personal.{name}"], leaf[0])
    assert any((device.state[name] != before[name]).any() for name in before), "fine-tuning moved them"
    device.save(workdir / "again.npz")
    written_again = dict(np.load(workdir / "again.npz"))
    for name, array in np.load(path).items():
        np.testing.assert_array_equal(written_again[name], array)


@pytest.mark.parametrize("user", [DISAGREED, NEW])
def test_without_a_better_model_of_the_own_a_device_starts_from_the_global_one(run, user):
    dataset, workdir = run
    path, own = export_user(dataset, workdir, IDS[user])
    device = DeviceModel.load(workdir / "device")
    start = device.state
    device.restore(path)
    assert not own
    for name, array in device.state.items():
        np.testing.assert_array_equal(array, start[name])


def test_the_command_says_whose_parameters_a_user_gets(run):
    _, workdir = run
    for user, words in ((OWN, "own parameters"), (DISAGREED, "the global parameters")):
        done = launch(workdir, f"--user={IDS[user]}")
        assert done.returncode == 0 and words in done.stdout, done.stderr
    wrong = launch(workdir, "--user=nobody")
    assert wrong.returncode == 1 and "--user: expected one of the 3 users" in wrong.stderr and "Traceback" not in wrong.stderr


def launch(workdir, *more):
    command = [sys.executable, "-m", "launch.export", f"--workdir={workdir}", f"--dataset={workdir / 'dataset'}", *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_users_of_what_is_not_exported_are_refused(run, tmp_path):
    dataset, workdir = run
    with pytest.raises(InputError, match=r"--user: expected one of the 3 users .* got 'nobody'"):
        export_user(dataset, workdir, "nobody")
    shutil.copytree(workdir, tmp_path / "run")
    (tmp_path / "run/device/manifest.json").unlink()
    with pytest.raises(InputError, match="expected an exported model; there is none, export without --user first"):
        export_user(dataset, tmp_path / "run", IDS[OWN])
    keep = PersonalRecipe(PersonalOptions(personal_n_sample=4), run=UserRunOptions(keep="metrics"))
    run_personalize(dataset, tmp_path / "run", keep, overwrite=True)
    shutil.copy(workdir / "device/manifest.json", tmp_path / "run/device")
    with pytest.raises(InputError, match=r"the personal models: .* there, .* now"):
        export_user(dataset, tmp_path / "run", IDS[OWN])
    stage.run_export(dataset, tmp_path / "run", OPTIONS, overwrite=True)
    assert not (tmp_path / "run/device/users").exists(), "files of users go with the model they belong to"
    with pytest.raises(InputError, match="--keep=metrics kept none"):
        export_user(dataset, tmp_path / "run", IDS[OWN])
