"""Benchmarks: every program can be started, and what is recorded stays where only one case is measured again."""

import importlib
import importlib.util
import json
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import recording
from jaxrec.errors import InputError

PROGRAMS = sorted(path.stem for path in Path(recording.__file__).parent.glob("[!_]*.py"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_finds_what_it_measures(name):
    if name.startswith("torch") and importlib.util.find_spec("torch") is None:
        pytest.skip("needs PyTorch")
    importlib.import_module(f"benchmarks.{name}")


def test_a_case_that_is_measured_again_leaves_the_others(tmp_path):
    given = Namespace(case=None, quick=False, device="cpu", out=tmp_path / "results.json")
    first = [{"case": "reference", "seconds": 1.0}, {"case": "large", "seconds": 9.0}]
    recording.record(given, "planning", first)
    given.case = "reference"
    recording.record(given, "planning", [{"case": "reference", "seconds": 2.0}])
    kept = json.loads(given.out.read_text())
    assert sorted((row["case"], row["seconds"]) for row in kept["rows"]) == [("large", 9.0), ("reference", 2.0)]
    given.out.write_text(json.dumps(kept | {"environment": {}}))
    with pytest.raises(InputError, match=r"results\.json: expected results of this machine"):
        recording.record(given, "planning", first[:1])
    given.case = None
    recording.record(given, "planning", first)
    assert json.loads(given.out.read_text())["rows"] == first
