"""The command line as a user meets it: help, nearest names, presets, order of flags, one line for a wrong value."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRESETS = sorted((ROOT / "configs").glob("*.flags"))
OWN_FLAGS = {
    "prepare": "input test_input dataset overwrite session_gap_minutes personal_from behaviors time_unit",
    "inspect": "dataset",
    "train": "dataset workdir overwrite units embedding_dim loss optimizer learning_rate epochs",
    "evaluate": "dataset workdir overwrite model ties",
    "personalize": "dataset workdir overwrite replay personal_epochs personal_learning_rates history_weights",
    "export": "dataset workdir overwrite",
    "measure": "workdir overwrite measure_calls measure_threads",
    "compare": "workdir dataset",
    "report": "workdir dataset",
    "experiment": "input test_input workdir overwrite session_gap_minutes time_unit shop_users units loss learning_rate epochs personal_epochs measure_calls",
}


def command(name, *arguments, cwd=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", f"launch.{name}", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=environment, check=False, timeout=120)


def refused(done, *words):
    """One line on standard error, which holds the words; exit code 1."""
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def test_every_command_is_tested():
    assert {path.stem for path in (ROOT / "launch").glob("[!_]*.py")} - {"flags"} == OWN_FLAGS.keys()


@pytest.mark.parametrize("name", OWN_FLAGS)
def test_help_says_what_the_command_does_and_shows_its_own_flags(name):
    shown = command(name, "--help").stdout
    assert f"python -m launch.{name} " in shown, "an example in the docstring of the command"
    flags = set(re.findall(r"^  (?:-\w,)?--(?:\[no\])?(\w+)", shown, re.MULTILINE))
    assert set(OWN_FLAGS[name].split()) <= flags
    others = {flag for line in OWN_FLAGS.values() for flag in line.split()} - set(OWN_FLAGS["experiment"].split())
    assert not flags & (others - set(OWN_FLAGS[name].split()) - {"personal_from", "behaviors", *_all_of(name)})


def _all_of(name):
    """Flags that `experiment` shares with every stage are its own as well."""
    return {flag for line in OWN_FLAGS.values() for flag in line.split()} - {"dataset", "model", "ties"} if name == "experiment" else set()
