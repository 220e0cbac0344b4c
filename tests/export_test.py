"""Exported folders: what stands in them, and that a model that does not compute what JAX computes never gets there."""

import tflite_needed  # noqa: F401, I001

import dataclasses
import importlib.metadata
import json
import shutil

import jax
import numpy as np
import pytest
from commands import command
from device_world import HISTORY, ITEMS, OFFSETS, OPTIONS, POPULAR, contents, entries, export_to, exported, random_model
from world import dataset_of, written

from jaxrec.data.own_history import FEATURES
from jaxrec.device import export as exporting
from jaxrec.device.convert import to_tflite
from jaxrec.device.parity import _differences, measure_parity
from jaxrec.device.runtime import DeviceModel
from jaxrec.device.shipped import ExportOptions, ship
from jaxrec.device.runtime import past_of
from jaxrec.errors import InputError
from jaxrec.files import sha256, write_json
from jaxrec.learning.losses import MASKED
from jaxrec.learning.personal_recipe import ChoiceOptions, PersonalOptions, PersonalRecipe, UserRunOptions
from jaxrec.learning.personalize import drawn_offsets, drawn_shares, personal_sampler
from jaxrec.learning.step import Rule
from jaxrec.learning.recipe import LossOptions, Recipe, RunOptions
from jaxrec.models.leaves import named
from jaxrec.models.recommender import ModelOptions
from jaxrec.stages import export as stage
from jaxrec.stages import personalize as personalizing
from jaxrec.stages.candidates import CandidateOptions, candidates_of, run_candidates
from jaxrec.stages.export import export_user, known_items, personalized
from jaxrec.stages.history import OFF
from jaxrec.stages.once import settings_of
from jaxrec.stages.personalize import RESULT as PERSONALIZED
from jaxrec.stages.personalize import STORE, run_personalize
from jaxrec.stages.store import chunk_folder, open_store
from jaxrec.stages.train import Trained, load_trained, run_train

FILES = ["items.npz", "manifest.json", "model.tflite", "personal.npz"]


@pytest.fixture(scope="module")
def flatbuffer():
    return to_tflite(entries("dense"))


def test_the_manifest_tells_what_was_exported(tmp_path):
    vocabulary = tmp_path / "vocabulary.parquet"
    vocabulary.write_bytes(b"names")
    manifest = exporting.export(contents("dense")._replace(vocabulary=vocabulary), OPTIONS, tmp_path / "device")
    folder = tmp_path / "device"
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert sorted(path.name for path in folder.iterdir()) == [*FILES, "vocabulary.parquet"]
    assert (folder / manifest["vocabulary"]).read_bytes() == b"names"
    assert manifest["sha256"] == sha256(folder / "model.tflite")
    assert manifest["model_bytes"] == (folder / "model.tflite").stat().st_size
    assert manifest["versions"]["jax"] == importlib.metadata.version("jax")
    assert (manifest["precision"], manifest["history"], manifest["items"]) == ("float32", dict(zip(FEATURES, HISTORY, strict=True)), ITEMS)
    assert 0 <= manifest["recommend_max_abs_error"] <= 1e-5
    assert 0 < manifest["train_max_abs_error"] <= 1e-4
    assert manifest["export_seconds"] > 0
    assert manifest["signatures"].keys() == {"recommend", "recommend_all", "step", "score", "train", "loss"}
    assert manifest["signatures"]["recommend"]["outputs"]["user_vector"] == {"shape": [8], "dtype": "float32"}


def test_a_device_starts_from_the_global_model():
    model, params = random_model("layers")
    state, personal = DeviceModel.load(exported("layers")).state, model.split(params)[1]
    np.testing.assert_array_equal(state["personal.last.w_in"], personal["last"]["w_in"])
    np.testing.assert_array_equal(state["personal.dense.kernel"], personal["dense"]["kernel"])
    assert all((part == 0).all() for name, part in state.items() if name.startswith("optimizer."))
    assert not any("lower" in name or "table" in name for name in state)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (lambda: entries("dense", change=lambda params: {**params, "item_table": params["item_table"] * np.float32(1.001)}), "recommend"),
        (lambda: entries("dense", offsets=OFFSETS + np.linspace(0, 0.01, ITEMS, dtype=np.float32)), "train"),
    ],
    ids=["table", "offsets"],
)
def test_parity_sees_small_changes(flatbuffer, changed, named):
    with pytest.raises(RuntimeError, match=f"export: {named} of the exported model differs from JAX"):
        measure_parity(changed(), ITEMS, flatbuffer)


def test_parity_sees_what_stands_beside_empty_places():
    want = {"items": np.array([3, 5, -1]), "scores": np.array([2, 1, MASKED], np.float32)}
    for items, scores in (([3, 5, -1], [2, 1.1, MASKED]), ([5, 3, -1], [2, 1, MASKED]), ([3, 5, 7], [2, 1, 0.5])):
        assert _differences({"items": np.array(items), "scores": np.array(scores, np.float32)}, want)[1] > 1e-3
    assert _differences(want, want)[1] == 0


def test_a_model_that_differs_is_not_written(flatbuffer, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "to_tflite", lambda _: flatbuffer)
    for name in FILES:
        (tmp_path / name).write_text("of an earlier export")
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(RuntimeError, match="differs from JAX"):
            export_to(folder, "dense", seed=1)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(FILES, "of an earlier export")


def test_an_interrupted_export_is_refused_by_the_runtime(tmp_path, monkeypatch):
    shutil.copytree(exported("dense"), tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(exporting, "write_arrays", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_to(tmp_path, "dense", seed=1)
    with pytest.raises(InputError, match=r"manifest\.json: expected a device manifest"):
        DeviceModel.load(tmp_path)


def test_encoded_tables_rank_nearly_alike():
    found = {}
    for precision in ("float32", "float16", "int8"):
        device = DeviceModel.load(exported("dense", precision))
        assert device.manifest["precision"] == precision
        found[precision] = device.recommend_all([1, 2, 3]).scores
    for precision, limit in (("float16", 2e-3), ("int8", 2e-2)):
        assert 0 < np.abs(found[precision] - found["float32"]).max() < limit


def test_offsets_are_those_of_the_simulation_for_the_devices_number_of_negatives():
    counts, personal = np.arange(1, 9), PersonalOptions()
    shares, n = drawn_shares(counts, personal), personal.personal_n_sample
    np.testing.assert_allclose(drawn_offsets(shares, n), personal_sampler(counts, personal).drawn_offset, rtol=1e-6)
    np.testing.assert_allclose(drawn_offsets(shares, n) - drawn_offsets(shares, 2 * n), np.log(2), rtol=1e-5)


TRAINED = Trained(None, None, None, 0, "a model")


def test_devices_learn_as_users_were_fine_tuned(tmp_path):
    nothing = {"learning_rate": None, "epochs": None, "history": OFF}
    assert personalized(tmp_path, TRAINED) == (PersonalOptions(), UserRunOptions(), nothing)
    settings = settings_of(PersonalOptions(personal_optimizer="adam", personal_n_sample=77), UserRunOptions(block_rows=3, block_steps=5))
    chosen = {"history": list(HISTORY), "learning_rate": 0.01, "epochs": 2, "inputs": {"model": "a model"}, "settings": settings}
    write_json(tmp_path / "personal" / "metrics.json", chosen)
    options, run, choice = personalized(tmp_path, TRAINED)
    sized = ExportOptions(train_steps=9).sized_as(options, run)
    assert (sized.train_rows, sized.train_steps, sized.train_negatives) == (3, 9, 77), "what is not said is as in the simulation"
    assert (options.rule, choice["history"], choice["learning_rate"]) == (Rule(optimizer="adam", in_batch=False), list(HISTORY), 0.01)
    with pytest.raises(InputError, match="started from another one"):
        personalized(tmp_path, TRAINED._replace(fingerprint="another model"))


def test_without_users_there_is_no_history_prior(tmp_path):
    settings = settings_of(PersonalOptions(), UserRunOptions())
    write_json(tmp_path / "personal" / "metrics.json", {"personal": None, "inputs": {"model": "a model"}, "settings": settings})
    assert personalized(tmp_path, TRAINED)[2]["history"] == OFF


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


def test_the_earlier_export_stands_until_another_is_there(tmp_path, monkeypatch):
    dataset = written(dataset_of([[0, 1, 2], [3, 4, 5]] * 6, periods=(10, 10)), tmp_path / "dataset")
    run_train(dataset, tmp_path, *SMALL)
    first, other = stage.run_export(dataset, tmp_path, OPTIONS), dataclasses.replace(OPTIONS, precision="int8")
    with monkeypatch.context() as differing:
        differing.setattr(exporting, "to_tflite", lambda _: (tmp_path / "device/model.tflite").read_bytes())
        with pytest.raises(RuntimeError, match="differs from JAX"):
            stage.run_export(dataset, tmp_path, other, overwrite=True)
    assert DeviceModel.load(tmp_path / "device").manifest == first
    with monkeypatch.context() as cut:
        cut.setattr(stage, "write_files", lambda *given: (exporting.write_files(*given), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            stage.run_export(dataset, tmp_path, other, overwrite=True)
    assert not (tmp_path / "device/manifest.json").exists()
    assert stage.run_export(dataset, tmp_path, other) == DeviceModel.load(tmp_path / "device").manifest


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


def test_personalisation_that_was_not_finished_is_not_ignored(run, tmp_path):
    dataset, workdir = run
    shutil.copytree(workdir, tmp_path / "run")
    (tmp_path / "run" / PERSONALIZED).unlink()
    with pytest.raises(InputError, match=r"personal/metrics\.json: expected `personalize` to be finished; it was begun"):
        stage.run_export(dataset, tmp_path / "run", OPTIONS, overwrite=True)


def test_what_validation_refuses_no_device_starts_from(run, monkeypatch):
    dataset, workdir = run
    assert export_user(dataset, workdir, IDS[OWN], OPTIONS)[1]
    refused = json.loads((workdir / PERSONALIZED).read_text()) | {"fine_tuned_is_used": False}
    monkeypatch.setattr(personalizing, "load_personal", lambda *_: refused)
    assert not export_user(dataset, workdir, IDS[OWN], OPTIONS)[1]


def test_a_user_s_device_starts_from_the_stored_parameters(run):
    dataset, workdir = run
    (path,), own = export_user(dataset, workdir, IDS[OWN], OPTIONS)
    assert (path, own) == (workdir / "device" / "users" / "a%2F%2E%2E%2Fb%201.npz", True)
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
    (path,), own = export_user(dataset, workdir, IDS[user], OPTIONS)
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
    return command("export", f"--workdir={workdir}", f"--dataset={workdir / 'dataset'}", *more)


def test_users_of_what_is_not_exported_are_refused(run, tmp_path):
    dataset, workdir = run
    with pytest.raises(InputError, match=r"--user: expected one of the 3 users .* got 'nobody'"):
        export_user(dataset, workdir, "nobody", OPTIONS)
    shutil.copytree(workdir, tmp_path / "run")
    (tmp_path / "run/device/manifest.json").unlink()
    with pytest.raises(InputError, match="expected an exported model; there is none, export without --user first"):
        export_user(dataset, tmp_path / "run", IDS[OWN], OPTIONS)
    keep = PersonalRecipe(PersonalOptions(personal_n_sample=4), run=UserRunOptions(keep="metrics"))
    run_personalize(dataset, tmp_path / "run", keep, overwrite=True)
    shutil.copy(workdir / "device/manifest.json", tmp_path / "run/device")
    with pytest.raises(InputError, match=r"the personal models: .* there, .* now"):
        export_user(dataset, tmp_path / "run", IDS[OWN], OPTIONS)
    stage.run_export(dataset, tmp_path / "run", OPTIONS, overwrite=True)
    assert not (tmp_path / "run/device/users").exists(), "files of users go with the model they belong to"
    with pytest.raises(InputError, match="--keep=metrics kept none"):
        export_user(dataset, tmp_path / "run", IDS[OWN], OPTIONS)


def test_a_device_that_knows_some_items_ranks_them_as_one_that_knows_all(tmp_path):
    """DeepRec's download: ids stay those of the vocabulary, whatever rows they have in the file."""
    items = np.array([2, 3, 5, 7, 11, 13, 17, 19, 23, 29])
    exporting.export(contents("layers"), OPTIONS, tmp_path / "some", items)
    some, everything = DeviceModel.load(tmp_path / "some"), DeviceModel.load(exported("layers"))
    assert (some.manifest["items"], some.manifest["vocabulary_items"], everything.manifest["items"]) == (10, ITEMS, ITEMS)
    assert some.manifest["model_bytes"] < everything.manifest["model_bytes"]
    past = past_of([[3, 4, 3], [29]])
    found, expected = (one.recommend([5, 7], [23, 3, 29, 2], past) for one in (some, everything))
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    assert set(some.recommend([5, 4, 7], [23, 4, 29, 6]).items.tolist()) == {23, 29, -1}, "unknown ones are left out"
    assert set(some.recommend_all([5]).items.tolist()) <= set(items.tolist())
    with pytest.raises(InputError, match="item: expected one that the device knows; got 4"):
        some.click(4)
    some.train_on([[2, 3, 4, 5], [4, 4]], 0.1)


@pytest.mark.parametrize("precision", [pytest.param("float32", marks=pytest.mark.long), "int8"])
def test_streamed_rows_rank_as_bundled_ones(tmp_path, precision):
    items, given = np.array([1, 3, 4, 8, 20, 21]), contents("dense")
    options = dataclasses.replace(OPTIONS, rows="streamed", precision=precision)
    manifest = exporting.export(given, options, tmp_path / "none")
    exporting.write_rows(given, options, items, manifest, tmp_path / "rows.npz")
    bundled_options = dataclasses.replace(OPTIONS, precision=precision, rows="candidates")
    exporting.export(given, bundled_options, tmp_path / "some", items)
    streamed, bundled = DeviceModel.load(tmp_path / "none"), DeviceModel.load(tmp_path / "some")
    with pytest.raises(InputError, match="item rows: expected those that the cloud sends; call `receive` first"):
        streamed.recommend([1], [3])
    streamed.receive(tmp_path / "rows.npz")
    for one in (streamed, bundled):
        one.train_on([[1, 3, 4], [8, 20, 8, 21]], 0.1)
    for call in (lambda one: one.recommend([3, 8], [21, 4, 1, 5]), lambda one: one.recommend_all([3, 8], past_of([[20, 20]]), True)):
        found, expected = call(streamed), call(bundled)
        np.testing.assert_array_equal(found.items, expected.items)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    with pytest.raises(InputError, match="--streamed_rows: expected at least the 13 items of the user; got 12"):
        exporting.write_rows(given, options, np.arange(13), manifest, tmp_path / "more.npz")
    assert not (tmp_path / "more.npz").exists()
    known = streamed.known
    streamed.save(tmp_path / "me.npz")
    with pytest.raises(InputError, match=r"me\.npz: expected rows\."):
        streamed.receive(tmp_path / "me.npz")
    with pytest.raises(InputError, match=r"rows\.npz: expected a model whose item rows are streamed; those of this one are candidates"):
        bundled.receive(tmp_path / "rows.npz")
    assert streamed.known is known


def test_files_of_another_model_are_refused_where_the_model_file_holds_no_number_of_it(tmp_path):
    """Streamed rows, personal parameters as inputs: two models may be the same file."""
    options = dataclasses.replace(OPTIONS, rows="streamed", precision="int8")
    manifests = [exporting.export(contents("no head", seed), options, tmp_path / str(seed)) for seed in (0, 1)]
    assert manifests[0]["fingerprint"] != manifests[1]["fingerprint"]
    exporting.write_rows(contents("no head", 1), options, np.arange(5), manifests[1], tmp_path / "rows.npz")
    device, other = (DeviceModel.load(tmp_path / str(seed)) for seed in (0, 1))
    other.save(tmp_path / "me.npz")
    for call in (lambda: device.restore(tmp_path / "me.npz"), lambda: device.receive(tmp_path / "rows.npz")):
        with pytest.raises(InputError, match=r"of the model .*; got those of"):
            call()


def test_baked_parameters_recommend_alike_and_cannot_be_trained(tmp_path):
    manifest = export_to(tmp_path, "dense", baked=True)
    baked, inputs = DeviceModel.load(tmp_path), DeviceModel.load(exported("dense"))
    assert manifest["signatures"].keys() == {"recommend", "recommend_all", "step", "score"} and not baked.state
    np.testing.assert_allclose(baked.recommend([1, 2], [3, 4, 5]).scores, inputs.recommend([1, 2], [3, 4, 5]).scores, atol=1e-5)
    np.testing.assert_allclose(baked.click(3), inputs.click(3), atol=1e-6)
    with pytest.raises(InputError, match="train: expected a model whose personal parameters are inputs; they are baked into this one"):
        baked.train_on([[1, 2]], 0.1)
    with pytest.raises(InputError, match="they are baked into this one"):
        baked.restore(tmp_path / "personal.npz")


def test_frozen_matrices_are_stored_as_item_rows_are():
    model, params = random_model("layers")
    shipped, personal = ship(model, params, OFFSETS, POPULAR, Rule(in_batch=False), HISTORY, "int8")
    for name in ("w_in", "w_hidden"):
        stored, matrix = shipped.frozen["lower"]["layer_0"][name], params["lower"]["layer_0"][name]
        assert stored.values.dtype == np.int8 and stored.values.shape == matrix.shape
        np.testing.assert_allclose(shipped.shared["lower"]["layer_0"][name], matrix, atol=np.abs(matrix).max() / 254 * 1.001)
    jax.tree.map(np.testing.assert_array_equal, personal, model.split(params)[1])


def test_a_user_s_own_folder_holds_the_user_s_items_and_parameters(run):
    dataset, workdir = run
    options = dataclasses.replace(OPTIONS, rows="candidates", candidates=3, top_k=2)
    (path,), own = export_user(dataset, workdir, IDS[OWN], options)
    items = known_items(dataset, workdir, OWN, 3)
    popular = np.argsort(-dataset.item_counts, kind="stable")[:3]
    assert own and set(items.tolist()) == {*popular.tolist(), 0, 1, 2, 3} and (np.diff(items) > 0).all()
    device, whole = DeviceModel.load(path), DeviceModel.load(workdir / "device")
    export_user(dataset, workdir, IDS[OWN], OPTIONS)
    whole.restore(path.with_name(f"{path.name}.npz"))
    np.testing.assert_allclose(device.recommend([0], [1, 2]).scores, whole.recommend([0], [1, 2]).scores[:2], atol=1e-5)
    with pytest.raises(InputError, match="--baked: expected item rows in the file of one user"):
        export_user(dataset, workdir, IDS[OWN], dataclasses.replace(OPTIONS, rows="streamed", baked=True))
    with pytest.raises(InputError, match=r"--rows=streamed: expected .* to be exported so; its rows are bundled"):
        export_user(dataset, workdir, IDS[OWN], dataclasses.replace(OPTIONS, rows="streamed"))
    with pytest.raises(InputError, match="--rows=candidates: expected --user"):
        stage.run_export(dataset, workdir, options, overwrite=True)


def test_a_user_s_device_knows_the_candidates_that_were_picked(run, tmp_path):
    dataset, workdir = run
    shutil.copytree(workdir, tmp_path / "run")
    run_candidates(dataset, tmp_path / "run", CandidateOptions(candidate_sources=("popularity",), candidates_per_user=(2, 5)))
    picked = candidates_of(tmp_path / "run", dataset, NEW)
    assert len(picked) == 2, "the first number is the device's"
    for most in (1, 4):
        assert set(known_items(dataset, tmp_path / "run", NEW, most).tolist()) == set(picked[:most].tolist())
    assert set(known_items(dataset, tmp_path / "run", OWN, 1).tolist()) == {picked[0], 0, 1, 2, 3}
