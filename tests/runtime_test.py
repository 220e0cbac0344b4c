"""The device's runtime against JAX, and what it refuses."""

import tflite_needed  # noqa: F401, I001

import json
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from device_world import ITEMS, OFFSETS, OPTIONS, RULES, export_to, exported, functions, own_inputs, random_block, random_model

from jaxrec.data.blocks import Block
from jaxrec.data.own_history import past_of
from jaxrec.device.runtime import DeviceModel
from jaxrec.errors import InputError
from jaxrec.learning.negatives import draw_items, sampler
from jaxrec.data.user_blocks import UserEvents
from jaxrec.learning.personal_recipe import ChoiceOptions, PersonalOptions
from jaxrec.learning.personalize import fit_user, no_advice
from jaxrec.learning.step import init_state
from jaxrec.models.leaves import named

CASES = [("dense", "float32"), ("layers", "int8"), ("no head", "float16")]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request):
    """(name, precision, folder) of an exported model."""
    return *request.param, exported(*request.param)


@pytest.fixture(scope="module")
def folder():
    """An exported model with a dense head."""
    return exported("dense")


@pytest.fixture
def device(folder):
    return DeviceModel.load(folder)


def close(got, want, limit):
    assert got.keys() == want.keys()
    for name in got:
        np.testing.assert_allclose(got[name], want[name], atol=limit, rtol=limit, err_msg=name)


def zero(device, signature="train"):
    """States before a block, or before the first click."""
    inputs = device.manifest["signatures"][signature]["inputs"]
    return {name: np.zeros(of["shape"], of["dtype"]) for name, of in inputs.items() if name.startswith("hidden.")}


def personal_of(name):
    model, params = random_model(name)
    return model.split(params)[1]


def test_recommendations_are_those_of_jax(case):
    name, precision, folder = case
    device, jitted, rng = DeviceModel.load(folder), functions(name, precision), np.random.default_rng(3)
    for length in range(5):
        context, sessions = rng.integers(0, ITEMS, 4, dtype=np.int32), np.split(rng.integers(0, ITEMS, 5), [2])
        past, exclude = past_of(sessions), bool(length % 2)
        some = rng.permutation(ITEMS)[:6].astype(np.int32)
        given = {"personal": personal_of(name), "context": context, "length": np.int32(length), "exclude_seen": np.bool_(exclude)}
        given["own"] = own_inputs(sessions, context[:length])
        for got, want in (
            (device.recommend(context[:length], some, past, exclude), jitted["recommend"](**given, candidates=some)),
            (device.recommend_all(context[:length], past, exclude), jitted["recommend_all"](**given)),
        ):
            np.testing.assert_array_equal(got.items, want["items"])
            close({"scores": got.scores, "user": got.user_vector}, {"scores": want["scores"], "user": want["user_vector"]}, 1e-5)


def test_updates_one_after_another_are_those_of_jax(case):
    name, precision, folder = case
    device, learn, rng = DeviceModel.load(folder), functions(name, precision)["train"], np.random.default_rng(4)
    personal = personal_of(name)
    state = {"personal": personal, "optimizer": init_state(RULES[name], personal).optimizer}
    hidden = jax.tree.map(np.asarray, random_model(name)[0].zero_hidden(OPTIONS.train_rows))
    for _ in range(5):
        items, mask, negatives = random_block(rng)
        block = Block(items, mask, rng.random(mask.shape) < 0.3)
        want = learn(**state, **block._asdict(), negatives=negatives, learning_rate=np.float32(0.05), hidden=hidden)
        loss, after = device.update(block, named({"hidden": hidden}), negatives, 0.05)
        state, hidden = {part: want[part] for part in state}, jax.tree.map(np.asarray, want["hidden"])
        close({"loss": loss, **device.state, **after}, {"loss": want["loss"], **named(state), **named({"hidden": hidden})}, 1e-4)
    assert all(np.abs(device.state[name] - leaf).max() > 1e-3 for name, leaf in named({"personal": personal}).items())


def test_clicks_follow_the_session_as_a_context_does(case):
    device = DeviceModel.load(case[2])
    vectors = [device.click(item) for item in (4, 5, 6)]
    np.testing.assert_allclose(vectors[-1], device.recommend_all([4, 5, 6]).user_vector, atol=1e-6)
    device.new_session()
    np.testing.assert_allclose(device.click(4), vectors[0], atol=1e-7)


def test_what_a_device_learns_is_what_was_simulated(folder):
    model, params = random_model("dense")
    shared, personal = jax.tree.map(jnp.asarray, model.split(params))
    options = PersonalOptions(personal_epochs=3, personal_n_sample=5, personal_learning_rates=(0.05,))
    source = sampler(np.arange(1, ITEMS + 1), 0.5, 0.0)._replace(drawn_offset=jnp.asarray(OFFSETS))
    items, mask, _ = random_block(np.random.default_rng(5))
    block = Block(*map(jnp.asarray, (items[None], mask[None], np.broadcast_to(np.arange(3) == 0, (1, 2, 3)))))
    events, never = UserEvents(jnp.int32(7), block, jnp.zeros_like(block.mask)), ChoiceOptions(holdout_fraction=0.0)
    simulated = fit_user(model, options, never, shared, personal, source, no_advice(options), events).params
    device, key = DeviceModel.load(folder), jax.random.fold_in(jax.random.key(options.personal_seed), 7)
    for epoch in range(3):
        negatives, _ = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, epoch), 0))
        drawn = np.asarray(draw_items(source, negatives, 5))
        device.update(Block(*(np.asarray(part[0]) for part in block)), zero(device), drawn, 0.05)
    close({name: part for name, part in device.state.items() if name.startswith("personal.")}, named({"personal": simulated}), 1e-5)


def test_short_inputs_are_padding(device):
    found = device.recommend([], [3, 4])
    assert set(found.items.tolist()) == {3, 4, -1}
    assert device.recommend([9, 9, 1, 2, 3, 4], [3, 4]).items.tolist() == device.recommend([1, 2, 3, 4], [3, 4]).items.tolist()


@pytest.mark.parametrize("number", [-7, ITEMS, 10**6])
def test_numbers_of_no_item_are_refused(device, number):
    before = dict(device.state)
    calls = {
        "candidates": lambda: device.recommend([1, 2], [3, number, 4]),
        "context": lambda: device.recommend_all([number, 1]),
        "past": lambda: device.recommend_all([1], past_of([[max(number, ITEMS)]])),
        "item": lambda: device.click(number),
        "sessions": lambda: device.train_on([[1, 2], [number, 3]], 0.1),
    }
    for name, call in calls.items():
        with pytest.raises(InputError, match=f"{name}: expected numbers of items, 0 to 29; got "):
            call()
    close(device.state, before, 0)
    close(device.hidden, zero(device, "step"), 0)
    assert device.recommend([1, 2], [3, -1, 4]).items.tolist()[2] == -1, "-1 is padding"


@pytest.mark.parametrize("length", [-3, 5, 2**31 - 1])
def test_a_length_that_cannot_be_is_the_nearest_that_can(device, length):
    """Where an app calls the file itself."""
    inputs = device.manifest["signatures"]["recommend_all"]["inputs"]
    feed = {name: np.zeros(of["shape"], of["dtype"]) for name, of in inputs.items()}
    feed |= {name: leaf for name, leaf in device.state.items() if name in inputs}
    feed |= {"context": np.array([5, 6, 7, 8], np.int32), "own.items": np.full(OPTIONS.own_items, -1, np.int32)}
    found, nearest = (device.runners["recommend_all"](**feed | {"length": np.int32(one)}) for one in (length, np.clip(length, 0, 4)))
    close(found, nearest, 0)


def test_own_clicks_raise_an_item(device):
    assert device.recommend([1], [3, 4, 5], past_of([[5] * 1000])).items[0] == 5
    assert device.recommend([1], [3, 4, 5], past_of([[3] * 1000])).items[0] == 3
    assert device.recommend_all([1], past_of([[9] * 1000])).items[0] == 9


def test_too_much_is_refused(device):
    with pytest.raises(InputError, match=r"candidates: expected at most the shape \(6,\); got \(7,\)"):
        device.recommend([1], range(7))
    with pytest.raises(InputError, match=r"candidates: expected whole numbers; got float64"):
        device.recommend([1], [1.5])


def test_an_update_that_is_not_finite_changes_nothing(device):
    before = dict(device.state)
    with pytest.raises(InputError, match="learning_rate: expected one that keeps the update finite; got inf"):
        device.train_on([[1, 2, 3], [4, 5]], float("inf"))
    close(device.state, before, 0)
    with pytest.raises(InputError, match="learning_rate: expected one that keeps the update finite"):
        device.train_on([[1, 2, 3], [4, 5]] * 9, 3e38, epochs=5)
    close(device.state, before, 0)


def test_every_fine_tuning_starts_its_optimizer_afresh(folder, device):
    """As users are fine-tuned again in simulation: parameters are kept between two fine-tunings and nothing else."""
    device.train_on([[1, 2, 3], [4, 5]], 0.1)
    other = DeviceModel.load(folder)
    other.state |= {name: part for name, part in device.state.items() if name.startswith("personal.")}
    assert any((other.state[name] != device.state[name]).any() for name in device.state), "or there is no optimizer's state to forget"
    for one in (device, other):
        one.train_on([[3, 4, 5]], 0.1)
    close(other.state, device.state, 0)


def test_saved_and_restored_goes_on_as_if_uninterrupted(folder, device, tmp_path):
    sessions = np.random.default_rng(0).integers(0, ITEMS, (4, 6)).tolist()
    device.train_on(sessions[:2], 0.1)
    device.save(tmp_path / "me.npz")
    other = DeviceModel.load(folder)
    other.restore(tmp_path / "me.npz")
    for one in (device, other):
        one.train_on(sessions[2:], 0.1, seed=1)
    close(other.state, device.state, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["me.npz"]


def test_parameters_of_another_model_are_refused(device, tmp_path):
    export_to(tmp_path / "other", "dense", seed=1)
    DeviceModel.load(tmp_path / "other").save(tmp_path / "me.npz")
    with pytest.raises(InputError, match=r"me.npz: expected personal parameters of the model .*; got those of"):
        device.restore(tmp_path / "me.npz")


def test_damaged_parameters_are_refused(device, tmp_path):
    device.save(tmp_path / "me.npz")
    whole = (tmp_path / "me.npz").read_bytes()
    for name, damaged in {"cut": whole[:-100], "text": b"hello", "empty": b""}.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(InputError, match=f"{name}: expected personal parameters; got something else"):
            device.restore(tmp_path / name)
    with pytest.raises(InputError, match="there is no such file"):
        device.restore(tmp_path / "nothing.npz")


def test_parameters_of_another_shape_are_refused(device, tmp_path):
    device.state["personal.dense.bias"] = np.zeros(3, np.float32)
    device.save(tmp_path / "me.npz")
    with pytest.raises(InputError, match=r"expected personal.dense.bias with \(\(8,\), 'float32'\); got \(\(3,\), 'float32'\)"):
        device.restore(tmp_path / "me.npz")


@pytest.mark.parametrize("missing", ["manifest.json", "model.tflite", "personal.npz", "items.npz"])
def test_an_incomplete_folder_is_refused(folder, tmp_path, missing):
    shutil.copytree(folder, tmp_path / "device")
    (tmp_path / "device" / missing).unlink()
    with pytest.raises(InputError, match=f"{missing}: expected .*there is no such file"):
        DeviceModel.load(tmp_path / "device")


def test_a_flipped_bit_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "device")
    model = bytearray((tmp_path / "device" / "model.tflite").read_bytes())
    model[len(model) // 2] ^= 1
    (tmp_path / "device" / "model.tflite").write_bytes(model)
    with pytest.raises(InputError, match=r"model\.tflite: expected the file with sha256"):
        DeviceModel.load(tmp_path / "device")


WITHOUT_JAX = """
import json, sys
for name in ("jax", "jaxlib", "flax", "optax", "pandas", "pyarrow", "scipy", "absl", "litert_converter"):
    sys.modules[name] = None  # an import of it fails
from jaxrec.device.learner import Learner
from jaxrec.device.runtime import DeviceModel
device = DeviceModel.load(sys.argv[1])
Learner(device).click(3)
device.train_on([[1, 2, 3]], 0.1)
print(json.dumps(device.recommend_all([3]).items.tolist()))
"""


def test_a_device_needs_no_jax(folder, device):
    done = subprocess.run([sys.executable, "-c", WITHOUT_JAX, str(folder)], capture_output=True, text=True, check=True)
    device.train_on([[1, 2, 3]], 0.1)
    assert json.loads(done.stdout) == device.recommend_all([3]).items.tolist()


def test_without_the_runtime_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(InputError, match=r"ai-edge-litert.*pip install jaxrec\[device\]"):
        DeviceModel.load(folder)


def test_options_fit_the_manifest(device):
    inputs = device.manifest["signatures"]["train"]["inputs"]
    assert inputs["items"] == {"shape": [OPTIONS.train_rows, OPTIONS.train_steps + 1], "dtype": "int32"}
    assert inputs["mask"]["dtype"] == "bool"
    assert inputs["learning_rate"] == {"shape": [], "dtype": "float32"}


def test_a_user_vector_of_a_session_of_any_length_leaves_the_running_one_alone(device):
    device.click(4)
    session = np.random.default_rng(0).integers(0, ITEMS, 40).tolist()
    vector = device.user_vector(session)
    after = device.click(5)
    other = DeviceModel.load(exported("dense"))
    np.testing.assert_array_equal([other.click(item) for item in session][-1], vector)
    other.new_session()
    np.testing.assert_array_equal([other.click(item) for item in (4, 5)][-1], after)
    with pytest.raises(InputError, match="session: expected at least one item that the device knows; got none"):
        device.user_vector([-1])


def test_a_flipped_bit_in_saved_parameters_is_refused(folder, device, tmp_path):
    """Wherever it is: what is read is what was written, or nothing."""
    device.save(tmp_path / "me.npz")
    whole, generator = (tmp_path / "me.npz").read_bytes(), np.random.default_rng(0)
    refused, other = 0, DeviceModel.load(folder)
    directory = np.arange(whole.index(b"PK\x01\x02"), len(whole))
    places = [*generator.choice(len(whole), 150, replace=False), *directory, *directory]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << generator.integers(8)
        (tmp_path / "damaged.npz").write_bytes(damaged)
        before = other.state = dict(other.state)
        try:
            other.restore(tmp_path / "damaged.npz")
        except InputError as error:
            refused += 1
            assert "damaged.npz: expected" in str(error)
            assert other.state is before
        else:
            close(other.state, device.state, 0)
    assert refused > 100


def test_parameters_that_are_not_finite_are_refused(device, tmp_path):
    before = dict(device.state)
    device.state = before | {"personal.dense.bias": np.full(8, np.nan, np.float32)}
    device.save(tmp_path / "me.npz")
    device.state = before
    with pytest.raises(InputError, match=r"me\.npz: expected finite numbers as personal.dense.bias; got NaN or infinity"):
        device.restore(tmp_path / "me.npz")
    close(device.state, before, 0)


def test_where_nothing_can_be_written_the_error_names_the_file(device, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match=r"taken/me\.npz: expected a file that can be written; got: .*taken"):
        device.save(tmp_path / "taken" / "me.npz")


SAVE_FOR_EVER = """
import sys
from jaxrec.device.runtime import DeviceModel
device = DeviceModel.load(sys.argv[1])
while True:
    device.save(sys.argv[2])
    print(flush=True)
"""


def test_killed_while_saving_the_earlier_parameters_are_intact(folder, device, tmp_path):
    for seconds in (0.005, 0.02):
        process = subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, str(folder), str(tmp_path / "me.npz")], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        process.communicate()
        device.restore(tmp_path / "me.npz")


def test_wrong_vectors_shapes_and_rates_are_refused(device):
    before = dict(device.state)
    calls = {
        r"user_vector: expected finite numbers of the shape \(8,\); got \(3,\)": lambda: device.score(np.zeros(3), [1]),
        r"user_vector: expected finite numbers": lambda: device.score(np.full(8, np.nan), [1]),
        r"context: expected one number after another; got the shape \(2, 2\)": lambda: device.recommend_all([[1, 2], [3, 4]]),
        r"learning_rate: expected 0 or more; got -0.1": lambda: device.train_on([[1, 2]], -0.1),
        r"sessions: expected numbers of items, 0 or more; got \[-1, 2\]": lambda: past_of([[-1, 2]]),
        r"sessions: expected numbers of items, 0 or more; got \[1.7, 2.0\]": lambda: past_of([[1.7, 2]]),
    }
    for words, call in calls.items():
        with pytest.raises(InputError, match=words):
            call()
    close(device.state, before, 0)


def test_the_judge_s_negatives_are_not_those_of_training(device):
    drawn = []
    device.draw = lambda generator: drawn.append(DeviceModel.draw(device, generator)) or drawn[-1]
    device.train_on([[1, 2, 3]], 0.1, seed=3)
    device.loss_on([[1, 2, 3]], seed=3)
    assert (drawn[0] != drawn[1]).any()


@pytest.mark.parametrize("change", [{"rows": None}, {"signatures": None}, {"fingerprint": None}], ids=lambda change: next(iter(change)))
def test_another_manifest_is_refused(folder, tmp_path, change):
    shutil.copytree(folder, tmp_path / "device")
    path = tmp_path / "device/manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in manifest.items() if name not in change}))
    with pytest.raises(InputError, match=rf"manifest\.json: expected a device manifest with '{next(iter(change))}'"):
        DeviceModel.load(tmp_path / "device")
    path.write_text("[]")
    with pytest.raises(InputError, match=r"manifest\.json: expected a device manifest"):
        DeviceModel.load(tmp_path / "device")
