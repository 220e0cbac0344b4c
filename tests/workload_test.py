"""Operations, multiply-adds and bytes, by hand; what the text about phones says of the file."""

import tflite_needed  # noqa: F401, I001

import json
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest
from device_world import export_to

from jaxrec.compression.rows import ENCODINGS
from jaxrec.device.convert import to_tflite
from jaxrec.device.operations import operations, workload
from jaxrec.device.signatures import Signature
from jaxrec.device.sizes import ROW_BYTES, sizes

ANDROID = Path(__file__).parents[1] / "docs" / "android.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("device")
    export_to(folder, "dense")
    return folder


@pytest.fixture(scope="module")
def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_multiply_adds_of_products_by_hand():
    constant = jnp.arange(36.0 * 7).reshape(36, 7)

    def products(a, b, c):
        return {"first": a.T @ b, "second": jnp.einsum("ri,nij->nrj", a, c), "third": a @ constant}

    example = {"a": jnp.zeros((2, 36)), "b": jnp.zeros((2, 12)), "c": jnp.zeros((5, 36, 3))}
    found = workload(to_tflite([Signature("products", products, example)]))["products"]
    assert {"BATCH_MATMUL", "FULLY_CONNECTED"} <= found["operations"].keys()
    # 36 x 12 sums of 2, and 5 x 2 x 3 and 2 x 7 sums of 36.
    assert found["multiply_adds"] == 36 * 12 * 2 + 5 * 2 * 3 * 36 + 2 * 7 * 36


def test_multiply_adds_of_a_click_by_hand(folder):
    model = (folder / "model.tflite").read_bytes()
    found = workload(model)
    # 8 inputs and 12 states to 36 gates, 12 states to a vector of 8.
    assert found["step"]["multiply_adds"] == 8 * 36 + 12 * 36 + 12 * 8
    assert found["train"]["multiply_adds"] > found["recommend"]["multiply_adds"] > found["step"]["multiply_adds"]
    assert set().union(*(one["operations"] for one in found.values())) == operations(model)
    counts = list(found["train"]["operations"].values())
    assert counts == sorted(counts, reverse=True)


def test_bytes_by_hand(manifest):
    found = sizes(manifest)
    # A GRU of 8 inputs and 12 units has two kernels and two biases; the dense head leads to vectors of 8.
    personal = 4 * (8 * 36 + 12 * 36 + 36 + 36 + 12 * 8 + 8)
    assert found["personal_bytes"] == personal
    assert found["personal_state_bytes"] == 2 * personal, "Adagrad keeps one number per parameter"
    assert (found["candidates"], found["candidates_bytes"]) == (6, 6 * (4 + 4 + 8 * 4))
    assert (found["user_vector_bytes"], found["units"], found["train_rows"], found["train_steps"]) == (32, [12], 2, 3)


@pytest.mark.parametrize(("precision", "row"), [("float32", 32), ("float16", 16), ("int8", 8 + 4)])
def test_candidates_weigh_what_their_precision_says(manifest, precision, row):
    assert sizes({**manifest, "precision": precision})["candidates_bytes"] == 6 * (4 + 4 + row)


def test_every_precision_has_a_weight():
    assert ROW_BYTES.keys() == ENCODINGS.keys()


def test_units_are_told_from_the_lowest_layer_up(manifest):
    click = manifest["signatures"]["step"]
    layers = {f"hidden.{layer}": {"shape": [layer + 1], "dtype": "float32"} for layer in (10, 2, 0)}
    signatures = {**manifest["signatures"], "step": {**click, "inputs": layers | click["inputs"] | layers}}
    assert sizes({**manifest, "signatures": signatures})["units"] == [1, 3, 11]


@pytest.mark.parametrize("signature", ["recommend", "step", "train"])
def test_the_flags_for_a_phone_name_the_inputs_in_the_file_s_order(folder, signature):
    from ai_edge_litert import schema_py_generated as schema

    (code,) = re.findall(r"```python\n(.*?)```", ANDROID.read_text(), re.DOTALL)
    printed = subprocess.run([sys.executable, "-W", "ignore", "-c", code, folder, signature], check=True, capture_output=True, text=True)
    names, shapes, ranges = (line.partition("=")[2] for line in printed.stdout.splitlines())
    root = schema.Model.GetRootAs((folder / "model.tflite").read_bytes(), 0)
    entries = [root.SignatureDefs(number) for number in range(root.SignatureDefsLength())]
    (graph,) = (root.Subgraphs(entry.SubgraphIndex()) for entry in entries if entry.SignatureKey().decode() == signature)
    tensors = [graph.Tensors(graph.Inputs(number)) for number in range(graph.InputsLength())]
    assert names.split(",") == [tensor.Name().decode() for tensor in tensors]
    assert shapes.split(":") == [",".join(str(tensor.Shape(axis)) for axis in range(tensor.ShapeLength())) for tensor in tensors]
    assert {one.split(",")[0] for one in ranges.split(":")} <= set(names.split(","))
