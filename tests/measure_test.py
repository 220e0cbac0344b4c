"""Measurement in fresh processes, and several exports side by side."""

import tflite_needed  # noqa: F401, I001

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree
from types import SimpleNamespace

import numpy as np
import pytest
from device_world import export_to

from jaxrec.device import measure as module
from jaxrec.device.measure import MeasureOptions, example, measure
from jaxrec.device.runtime import DeviceModel
from jaxrec.errors import InputError
from jaxrec.stages.measure import compare_exports, run_measure, shown

OPTIONS = MeasureOptions(measure_calls=30, measure_threads=(2, 1))
ALONE = """
import sys
from pathlib import Path
for name in ("jax", "pandas", "matplotlib", "ai_edge_litert.schema_py_generated"):
    sys.modules[name] = None  # an import of it fails
from jaxrec.device.measure import figures
figures(Path(sys.argv[1]), 1, 1)
"""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    export_to(workdir / "device", "dense")
    return workdir


@pytest.fixture(scope="module")
def manifest(workdir):
    return json.loads((workdir / "device" / "manifest.json").read_text())


@pytest.fixture(scope="module")
def found(workdir):
    return measure(workdir / "device", OPTIONS)


def test_every_signature_is_timed_with_every_number_of_threads(found, manifest):
    assert list(found["by_threads"]) == ["2", "1"]
    for one in found["by_threads"].values():
        for name in manifest["signatures"]:
            assert 0 < one[f"{name}_p50_ms"] <= one[f"{name}_p95_ms"] <= one[f"{name}_p99_ms"]
            # How these compare with the steady calls is up to a busy machine.
            assert all(one[f"{name}_{kind}_ms"] > 0 for kind in ("first", "warm_up", "mean", "call_p50"))


def test_processor_time_counts_the_calls_alone(found, manifest):
    alone = found["by_threads"]["1"]
    for name in manifest["signatures"]:
        assert alone[f"{name}_cpu_ms"] >= 0 and alone[f"{name}_cpu_share"] >= 0, name


def test_the_first_number_of_threads_gives_the_figures_of_the_report(found):
    assert found["threads"] == 2
    assert found["by_threads"]["2"].items() <= found.items()


def test_every_number_of_threads_has_a_process_of_its_own(workdir, monkeypatch):
    started, bare = [], "VmHWM: 1000 kB"

    def record(arguments):
        started.append(arguments)
        return bare if arguments[0] == "-c" else json.dumps({"peak_rss_mb": 3.024})

    monkeypatch.setattr(module, "_python", record)
    found = measure(workdir / "device", MeasureOptions(measure_threads=(1, 4)))
    assert [arguments[-1] for arguments in started if arguments[0] == "-m"] == ["--threads=1", "--threads=4"]
    # 1000 kB are 1.024 MB.
    assert found["peak_rss_mb"] == found["by_threads"]["4"]["peak_rss_mb"] == pytest.approx(2.0)


def test_memory_is_what_comes_on_top_of_a_bare_process(found):
    # This process holds JAX and weighs hundreds of MB; the measured one does not inherit that.
    assert all(0 < one["peak_rss_mb"] < 60 for one in found["by_threads"].values())


def test_figures_of_the_export_stand_beside(manifest, found):
    for name in ("model_bytes", "recommend_max_abs_error", "train_max_abs_error", "precision", "items"):
        assert found[name] == manifest[name]
    assert found["workload"].keys() == manifest["signatures"].keys()


def test_the_measured_calls_are_full(workdir):
    device = DeviceModel.load(workdir / "device")
    feed = example(device, "recommend", np.random.default_rng(0))
    assert feed["length"] == len(feed["context"]) == 4
    assert feed["candidates"].min() >= 0
    learning = example(device, "train", np.random.default_rng(0))
    assert learning["mask"].all()
    np.testing.assert_array_equal(learning["personal.last.w_in"], device.state["personal.last.w_in"])
    assert np.isfinite(device.runners["train"](**learning)["loss"])


def test_inputs_that_are_not_known_are_ones_and_all_have_their_type():
    wanted = {
        **{"own.items": ([50], "int32"), "own.counts": ([50], "float32"), "exclude_seen": ([], "bool"), "rows": ([5, 4], "float32")},
        **{"hidden.0": ([3], "float32"), "steps_until_noon": ([2], "int32")},
    }
    inputs = {name: {"shape": shape, "dtype": dtype} for name, (shape, dtype) in wanted.items()}
    device = SimpleNamespace(
        manifest={"items": 9, "signatures": {"score": {"inputs": inputs}}}, state={}, hidden={"hidden.0": np.array([1, 2, 3])}
    )
    feed = example(device, "score", np.random.default_rng(0))
    assert {name: (list(value.shape), value.dtype.name) for name, value in feed.items()} == wanted
    assert (np.diff(feed["own.items"]) >= 0).all() and set(feed["own.items"]) == set(range(9))
    assert feed["exclude_seen"] and feed["steps_until_noon"].tolist() == [1, 1] and feed["hidden.0"].tolist() == [1, 2, 3]


def test_the_measuring_process_imports_numpy_and_the_runtime_alone(workdir):
    subprocess.run([sys.executable, "-c", ALONE, str(workdir / "device")], check=True, capture_output=True)


def test_a_failure_over_there_is_told_in_one_line(workdir, tmp_path):
    (tmp_path / "manifest.json").write_text((workdir / "device" / "manifest.json").read_text())
    with pytest.raises(InputError, match=r"measure: the process on the device's runtime failed: .*model.tflite"):
        measure(tmp_path, OPTIONS)


def test_no_number_of_threads_is_refused():
    with pytest.raises(InputError, match="--measure_threads: expected at least one number of threads; got none"):
        MeasureOptions(measure_threads=())


def test_the_stage_measures_once_and_draws(workdir, manifest):
    first = run_measure(workdir, OPTIONS)
    assert run_measure(workdir, OPTIONS) == first == json.loads((workdir / "device" / "measurement.json").read_text())
    with pytest.raises(InputError, match="--measure_calls: 30 there, 31 now"):
        run_measure(workdir, MeasureOptions(measure_calls=31, measure_threads=(2, 1)))
    picture = (workdir / "device" / "measurement.svg").read_text()
    xml.etree.ElementTree.fromstring(picture)
    assert "#0102" not in picture and "var(" not in picture, "a file of its own has colours of its own"
    assert all(f"{name}, 2" in shown(first) for name in manifest["signatures"]) and "#2470c8" in picture


def test_exports_side_by_side(workdir, tmp_path, manifest):
    run_measure(workdir, OPTIONS)
    shutil.copytree(workdir / "device", tmp_path / "other", ignore=shutil.ignore_patterns("measurement*"))
    # What was measured with other settings is kept, what was not measured is.
    text = compare_exports([workdir, tmp_path / "other"], MeasureOptions(measure_calls=5, measure_threads=(1,)))
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines() if "|" in line}
    assert cells["threads"] == ["2", "1"] and cells["items"] == ["30", "30"] and cells["units"] == ["12", "12"]
    assert cells["train, 2"][2:] == ["–", "–"], "the other was measured with one thread"
    assert json.loads((tmp_path / "other" / "measurement.json").read_text())["sha256"] == manifest["sha256"]


@pytest.mark.parametrize("kind", ["nothing", "a dataset"])
def test_what_is_no_export_is_not_compared(workdir, tmp_path, kind):
    if kind == "a dataset":
        (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match=f"--compare: expected workdirs or device folders that export wrote; got {tmp_path}"):
        compare_exports([workdir, tmp_path], OPTIONS)
    with pytest.raises(InputError, match="--compare: expected workdirs or device folders, separated by commas; got none"):
        compare_exports([], OPTIONS)


def test_a_measurement_of_an_earlier_export_is_not_compared(workdir, tmp_path):
    shutil.copytree(workdir / "device", tmp_path, dirs_exist_ok=True)
    (tmp_path / "measurement.json").write_text(json.dumps({"inputs": {"exported model": "another"}}))
    with pytest.raises(InputError, match=r"measurement.json: expected the measurement of the model that is there; it is of an earlier one"):
        compare_exports([tmp_path], OPTIONS)
