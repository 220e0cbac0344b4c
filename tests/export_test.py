"""Exported folders: what stands in them, and that a model that does not compute what JAX computes never gets there."""

import tflite_needed  # noqa: F401, I001

import dataclasses
import importlib.metadata
import json

import numpy as np
import pytest
from device_world import ITEMS, OFFSETS, OPTIONS, RULES, WEIGHT, export_to, random_model
from world import dataset_of, written

from jaxrec.device import export as exporting
from jaxrec.device.convert import to_tflite
from jaxrec.device.parity import measure_parity
from jaxrec.device.runtime import DeviceModel
from jaxrec.device.signatures import ship, signatures
from jaxrec.errors import InputError
from jaxrec.files import sha256, write_json
from jaxrec.learning.personalize import PersonalOptions, personal_sampler
from jaxrec.learning.step import Rule
from jaxrec.learning.recipe import LossOptions, Recipe, RunOptions
from jaxrec.models.recommender import ModelOptions
from jaxrec.stages import export as stage
from jaxrec.stages.export import device_offsets, personalized
from jaxrec.stages.once import settings_of
from jaxrec.stages.train import Trained, run_train

FILES = ["manifest.json", "model.tflite", "personal.npz"]


def entries(name, change=lambda params: params, weight=WEIGHT, offsets=OFFSETS):
    model, params = random_model(name)
    return signatures(*ship(model, change(params), weight, offsets, RULES[name], "float32"), OPTIONS)


@pytest.fixture(scope="module")
def flatbuffer():
    return to_tflite(entries("dense"))


def test_the_manifest_tells_what_was_exported(tmp_path):
    vocabulary = tmp_path / "vocabulary.parquet"
    vocabulary.write_bytes(b"names")
    model, params = random_model("dense")
    manifest = exporting.export(model, params, WEIGHT, OFFSETS, OPTIONS, tmp_path / "device", RULES["dense"], vocabulary)
    folder = tmp_path / "device"
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert sorted(path.name for path in folder.iterdir()) == [*FILES, "vocabulary.parquet"]
    assert (folder / manifest["vocabulary"]).read_bytes() == b"names"
    assert manifest["sha256"] == sha256(folder / "model.tflite")
    assert manifest["model_bytes"] == (folder / "model.tflite").stat().st_size
    assert manifest["versions"]["jax"] == importlib.metadata.version("jax")
    assert (manifest["precision"], manifest["history_weight"], manifest["items"]) == ("float32", WEIGHT, ITEMS)
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
        (lambda: entries("dense", weight=WEIGHT + 1e-3), "recommend"),
        (lambda: entries("dense", change=lambda params: {**params, "item_table": params["item_table"] * np.float32(1.001)}), "recommend"),
        (lambda: entries("dense", offsets=OFFSETS[::-1]), "train"),
    ],
    ids=["history", "table", "offsets"],
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
    assert personalized(tmp_path, TRAINED) == (PersonalOptions(), {"learning_rate": None, "history_weight": 0.0})
    settings = settings_of(PersonalOptions(personal_optimizer="adam"))
    chosen = {"history_weight": 1.5, "learning_rate": 0.01, "inputs": {"model": "a model"}, "settings": settings}
    write_json(tmp_path / "personal" / "metrics.json", chosen)
    options, choice = personalized(tmp_path, TRAINED)
    assert (options.rule, choice["history_weight"], choice["learning_rate"]) == (Rule(optimizer="adam", in_batch=False), 1.5, 0.01)
    with pytest.raises(InputError, match="started from another one"):
        personalized(tmp_path, TRAINED._replace(fingerprint="another model"))


def test_without_users_there_is_no_history_prior(tmp_path):
    settings = settings_of(PersonalOptions())
    write_json(tmp_path / "personal" / "metrics.json", {"personal": None, "inputs": {"model": "a model"}, "settings": settings})
    assert personalized(tmp_path, TRAINED)[1]["history_weight"] == 0.0


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
