"""Measurement in a fresh process."""

import tflite_needed  # noqa: F401, I001

import json
import subprocess
import sys

import numpy as np
import pytest
from device_world import export_to

from jaxrec.device.measure import MeasureOptions, example, measure
from jaxrec.device.runtime import DeviceModel
from jaxrec.errors import InputError
from jaxrec.stages.measure import run_measure

SIGNATURES = ("recommend", "recommend_all", "step", "train")
OPTIONS = MeasureOptions(measure_calls=30)
WITHOUT_JAX = """
import sys
from pathlib import Path
sys.modules["jax"] = None  # an import of it fails
from jaxrec.device.measure import figures
figures(Path(sys.argv[1]), 1, 1)
"""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    export_to(workdir / "device", "dense")
    return workdir


@pytest.fixture(scope="module")
def found(workdir):
    return measure(workdir / "device", OPTIONS)


def test_every_signature_is_timed(found):
    for name in SIGNATURES:
        assert 0 < found[f"{name}_p50_ms"] <= found[f"{name}_p95_ms"]
        # The whole call is the invocation and more.
        assert found[f"{name}_call_p50_ms"] > found[f"{name}_p50_ms"] * 0.9
        assert found[f"{name}_first_ms"] > 0
    assert found["threads"] == 1


def test_memory_is_what_comes_on_top_of_a_bare_process(found):
    # This process holds JAX and weighs hundreds of MB; the measured one does not inherit that.
    assert 0 < found["peak_rss_mb"] < 60


def test_figures_of_the_export_stand_beside(workdir, found):
    manifest = json.loads((workdir / "device" / "manifest.json").read_text())
    for name in ("model_bytes", "recommend_max_abs_error", "train_max_abs_error", "precision"):
        assert found[name] == manifest[name]


def test_the_measured_calls_are_full(workdir):
    device = DeviceModel.load(workdir / "device")
    feed = example(device, "recommend", np.random.default_rng(0))
    assert feed["length"] == len(feed["context"]) == 4
    assert feed["candidates"].min() >= 0
    learning = example(device, "train", np.random.default_rng(0))
    assert learning["mask"].all()
    np.testing.assert_array_equal(learning["personal.last.w_in"], device.state["personal.last.w_in"])
    assert np.isfinite(device.runners["train"](**learning)["loss"])


def test_the_measuring_process_imports_no_jax(workdir):
    subprocess.run([sys.executable, "-c", WITHOUT_JAX, str(workdir / "device")], check=True, capture_output=True)


def test_a_failure_over_there_is_told_in_one_line(workdir, tmp_path):
    (tmp_path / "manifest.json").write_text((workdir / "device" / "manifest.json").read_text())
    with pytest.raises(InputError, match=r"measure: the process on the device's runtime failed: .*model.tflite"):
        measure(tmp_path, OPTIONS)


def test_the_stage_measures_once(workdir):
    first = run_measure(workdir, OPTIONS, overwrite=False)
    assert run_measure(workdir, OPTIONS, overwrite=False) == first == json.loads((workdir / "device" / "measurement.json").read_text())
    with pytest.raises(InputError, match="--measure_calls: 30 there, 31 now"):
        run_measure(workdir, MeasureOptions(measure_calls=31), overwrite=False)
