"""From JAX to a TFLite file: which operations, how many bytes, what is refused."""

import tflite_needed  # noqa: F401, I001

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from device_world import OPTIONS, entries

from jaxrec.device import convert
from jaxrec.device.shipped import ship
from jaxrec.device.signatures import Signature, signatures
from jaxrec.errors import InputError
from jaxrec.learning.step import Rule
from jaxrec.models.recommender import Model, ModelOptions

ADD = Signature("add", lambda a, unused: {"sum": a + 1.0}, {"a": jnp.zeros(2), "unused": jnp.zeros(3)})


def test_an_unused_input_stays_an_input():
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=convert.to_tflite([ADD]), num_threads=1).get_signature_runner("add")
    assert runner(a=np.ones(2, np.float32), unused=np.zeros(3, np.float32))["sum"].tolist() == [2, 2]


@pytest.mark.parametrize(("name", "precision"), [("dense", "float32"), ("layers", "int8"), ("no head", "float16")])
def test_only_built_in_operations_and_no_loop(name, precision):
    found = convert.operations(convert.to_tflite(entries(name, precision)))
    assert not {one for one in found if ":" in one or one.startswith(("STABLEHLO", "WHILE", "CALL"))}
    assert {"TOPK_V2", "TANH"} <= found


@pytest.mark.parametrize(("precision", "per_row"), [("float32", 4 * 16), ("float16", 2 * 16), ("int8", 16 + 4)])
def test_a_table_is_stored_once_however_many_signatures_read_it(precision, per_row):
    def size(items):
        model = Model(ModelOptions(units=(4,), embedding_dim=16), items)
        offsets, popular = np.arange(items), -np.arange(items)  # equal columns would be stored as one
        shipped, personal = ship(model, model.init(jax.random.key(0)), offsets, popular, Rule(in_batch=False), (1.0,) * 8, precision)
        return len(convert.to_tflite(signatures(shipped, personal, dataclasses.replace(OPTIONS, context_length=1, train_steps=1))))

    # Beside its row, an item has a bias, an offset and its popularity. Each is stored once, so bytes grow by exactly that.
    assert abs(size(3000) - size(1000) - 2000 * (per_row + 4 + 4 + 4)) < 2000


def test_without_the_converter_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "litert_converter.mlir", None)
    with pytest.raises(InputError, match=r"litert-converter.*pip install jaxrec\[device\]"):
        convert.to_tflite([ADD])


def test_an_unknown_converter_is_warned_about(monkeypatch):
    monkeypatch.setattr(convert.importlib.metadata, "version", lambda _: "0.9.1")
    with pytest.warns(UserWarning, match="litert-converter 0.9.1 was not tried"):
        convert.to_tflite([ADD])


def test_foreign_operations_are_refused(monkeypatch):
    monkeypatch.setattr(convert, "operations", lambda _: {"ADD", "custom:FlexScatterNd"})
    with pytest.raises(RuntimeError, match="custom:FlexScatterNd"):
        convert.to_tflite([ADD])
