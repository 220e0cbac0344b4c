"""The report's part about the device: every figure where it belongs, published ones apart from measured ones."""

import json
import re

import pytest

from jaxrec.report.contents import markdown
from jaxrec.report.device_plots import device_plots
from jaxrec.report.device_tables import beside_published, operations, overview, timings
from jaxrec.report.summary import summarise
from jaxrec.stages.report import write_report

TIMES = {
    "p50_ms": 0.5,
    "p95_ms": 0.75,
    "p99_ms": 1.25,
    "call_p50_ms": 0.6,
    "first_ms": 9.0,
    "warm_up_ms": 2.0,
    "cpu_ms": 0.55,
    "cpu_share": 0.9,
}
TRAIN = {f"train_{key}": value for key, value in TIMES.items()}
MEASURED = {
    **{"model_bytes": 500_000, "personal_bytes": 3_000, "precision": "int8", "units": [24, 16], "train_rows": 8, "train_steps": 4},
    **{"peak_rss_mb": 21.4, "threads": 1, "recommend_p50_ms": 0.125, **TRAIN},
    "by_threads": {"1": TRAIN, "4": {name: 10 * value for name, value in TRAIN.items()}},
    "workload": {"train": {"operations": {"MUL": 4, "ADD": 3, "SUB": 2, "NEG": 1, "EXP": 1}, "multiply_adds": 12_345}},
}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "shop" / "device"
    folder.mkdir(parents=True)
    (folder / "measurement.json").write_text(json.dumps({**MEASURED, "seconds": 2.0, "settings": {"measure_calls": 5}}))
    (folder / "manifest.json").write_text(json.dumps({"model_bytes": 500_000, "signatures": {}}))
    return tmp_path / "shop"


def test_the_overview_leaves_out_what_was_not_measured():
    rows = dict(overview(MEASURED).rows)
    assert rows["units"] == "24, 16" and rows["interactions in one update, at most"] == "32"
    assert rows["processor use during updates, of one core"] == "90.0 %" and "one click, median" not in rows
    assert dict(overview({"model_bytes": 12}).rows) == {"model file": "12 B"}


def test_a_row_for_every_signature_and_number_of_threads():
    found = timings(MEASURED)
    assert found.rows == [
        ("train, 1", "0.500", "0.750", "1.25", "0.600", "9.00", "2.00", "0.550", "90.0 %"),
        ("train, 4", "5.00", "7.50", "12.5", "6.00", "90.0", "20.0", "5.50", "900.0 %"),
    ]
    assert timings(MEASURED, brief=True).rows[0] == ("train, 1", "0.500", "0.750")
    assert timings({"model_bytes": 12}) is None


def test_operations_are_summed_and_the_most_frequent_named():
    assert operations(MEASURED).rows == [("train", "11", "12,345", "MUL 4, ADD 3, SUB 2, NEG 1")]
    assert operations({"model_bytes": 12}) is None


def test_published_figures_say_that_they_were_not_measured_here():
    mine, *published = beside_published({"shop": MEASURED}).rows
    assert mine[:7] == ("shop", "0.500 ms", "32", "0.125 ms", "90.0 %", "21.4 MB", "500.0 kB")
    assert len(published) == 2 and "measured here" in mine[-1]
    for row in published:
        assert "published" in row[0] and "not measured here" in row[-1]
    assert published[0][1:6] == ("53,000 ms", "50", "–", "62 %", "1,030.6 MB")


def test_the_report_holds_everything_that_was_measured(run):
    found = summarise(run)["device"]
    assert MEASURED.items() <= found.items()
    assert not {"seconds", "settings", "signatures"} & found.keys()
    assert found["step_p50_ms"] is None, "promised, not measured"
    text = markdown({"shop": summarise(run)})
    assert re.search(r"\| train, 4 +\| +5.00 \|", text) and "not measured here" in text


def test_bars_of_one_run_are_threads_and_of_several_are_runs(run):
    one = device_plots({"shop": MEASURED})["device_times"]
    assert "1 thread<" in one and "4 threads<" in one
    several = device_plots({"shop": MEASURED, "mall": MEASURED})["device_times"]
    assert "shop<" in several and "mall<" in several and "thread" not in several
    assert device_plots({"shop": {"model_bytes": 12}}) == {}, "one bar compares nothing"
    assert write_report([run]) and 'aria-label="Milliseconds of every signature' in (run / "report.html").read_text()
