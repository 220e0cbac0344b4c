"""The command line as a user meets it: help, nearest names, presets, order of flags, one line for a wrong value."""

import re
import subprocess

import pytest
from commands import ROOT, command, line

from jaxrec.data.prepare import PrepareOptions
from jaxrec.data.reading.formats import ReadOptions
from jaxrec.data.shop import ShopOptions
from jaxrec.device.measure import MeasureOptions
from jaxrec.device.signatures import ExportOptions
from jaxrec.learning.mesh import MeshOptions
from jaxrec.learning.personal_recipe import ChoiceOptions, PersonalOptions, UserRunOptions
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, RunOptions
from jaxrec.models.recommender import ModelOptions
from jaxrec.stages.candidates import CandidateOptions
from jaxrec.stages.evaluate import EvaluateOptions

PRESETS = sorted((ROOT / "configs").glob("*.flags"))
TRAINING = (ModelOptions, LossOptions, OptimizerOptions, RunOptions)
PERSONAL = (PersonalOptions, ChoiceOptions, UserRunOptions)
OWN = {
    "prepare": ("input test_input dataset overwrite", PrepareOptions, ReadOptions),
    "inspect": ("dataset",),
    "train": ("dataset workdir overwrite", *TRAINING, MeshOptions),
    "candidates": ("dataset workdir overwrite", CandidateOptions),
    "evaluate": ("dataset workdir overwrite", EvaluateOptions),
    "personalize": ("dataset workdir overwrite", *PERSONAL, MeshOptions),
    "export": ("dataset workdir overwrite user", ExportOptions),
    "measure": ("workdir overwrite compare", MeasureOptions),
    "compare": ("workdir runs dataset",),
    "report": ("workdir dataset",),
    "experiment": (
        "input test_input workdir overwrite",
        *(PrepareOptions, ReadOptions, ShopOptions, *TRAINING, CandidateOptions, *PERSONAL, EvaluateOptions),
        *(ExportOptions, MeasureOptions, MeshOptions),
    ),
}


def refused(done, *words):
    """One line on standard error, which holds the words; exit code 1."""
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def test_every_command_is_tested():
    assert {path.stem for path in (ROOT / "launch").glob("[!_]*.py")} - {"flags"} == OWN.keys()


@pytest.mark.parametrize("name", OWN)
def test_help_shows_an_example_and_the_command_s_own_flags_alone(name):
    """In a fresh process: every command imports what it needs, and nothing that it imports has anything to say."""
    done = subprocess.run(line(name, "--help"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    shown = done.stdout
    assert f"python -m launch.{name} --" in shown
    by_hand, *kinds = OWN[name]
    expected = {*by_hand.split(), *(field for kind in kinds for field in kind.__dataclass_fields__)}
    assert set(re.findall(r"^  --(?:\[no\])?(\w+)", shown, re.MULTILINE)) == expected


@pytest.mark.parametrize(
    ("name", "flag", "nearest"), [("train", "--lerning_rate=0.1", "learning_rate"), ("inspect", "--datset=x", "dataset")]
)
def test_an_unknown_flag_is_refused_with_the_nearest_name(name, flag, nearest):
    done = command(name, flag)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(rf"Unknown command line flag '{flag[2:].split('=')[0]}'\. Did you mean: {nearest} ?\?", done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_a_later_flag_wins_over_a_file_of_flags_and_the_file_over_an_earlier_one(tmp_path):
    preset = tmp_path / "some.flags"
    preset.write_text("# A comment.\n--dataset=of_the_file\n")
    refused(command("inspect", f"--flagfile={preset}"), "of_the_file/manifest.json")
    refused(command("inspect", f"--flagfile={preset}", "--dataset=later"), "later/manifest.json")
    refused(command("inspect", "--dataset=earlier", f"--flagfile={preset}"), "of_the_file/manifest.json")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--dataset=none"], ["none/manifest.json"]),
        (["prepare", "--input=x"], ["--dataset: expected a path; the flag was not given"]),
        (["prepare", "x.csv"], ["expected flags only; got the argument 'x.csv'"]),
        (["prepare", "--dataset=none", "--session_gap_minutes=-1"], ["--session_gap_minutes: expected at least 0; got -1.0"]),
        (["experiment", "--workdir=none", "--units=10,ten"], ["--units: expected a comma-separated list of int; got '10,ten'"]),
        (["experiment", "--workdir=none", "--dropout_p_embed=1.5"], ["--dropout_p_embed: expected at most 0.99; got 1.5"]),
        (
            ["experiment", "--workdir=none", "--coordinator_address=auto"],
            ["--coordinator_address: expected none"],
        ),
        (
            ["experiment", "--workdir=none", "--mesh=data:99"],
            ["--mesh: expected a mesh of at most the 2 devices"],
        ),
        (["experiment", "--workdir=none", "--rows=candidates"], ["--rows=candidates: expected bundled or streamed"]),
        (["experiment", "--workdir=none", "--model=personal", "--keep=metrics"], ["--model=personal: expected a store of parameters"]),
        (["experiment", "--workdir=none", "--personal_learning_rates="], ["--personal_learning_rates: expected at least one value"]),
    ],
)
def test_a_wrong_value_ends_in_one_line_that_names_it(tmp_path, arguments, words):
    refused(command(*arguments, cwd=tmp_path), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--min_item_support=many", ["--min_item_support", "many"]),
        ("--item_field=brand", ["--item_field", "brand", "category"]),
        ("--flagfile=none.flags", ["none.flags"]),
    ],
)
def test_a_value_that_is_no_value_of_the_flag_is_named(tmp_path, flag, words):
    done = command("prepare", "--dataset=none", flag, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert all(word in done.stderr for word in words) and "Traceback" not in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_there_are_presets():
    assert "quickstart.flags" in [preset.name for preset in PRESETS]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_a_preset_says_what_it_gives(preset):
    lines = preset.read_text(encoding="utf-8").splitlines()
    comment = "\n".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])
    assert f"configs/{preset.name}" in comment, "the command that runs it stands in the first lines"
    assert all(line.startswith(("#", "--")) or not line for line in lines)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_every_flag_of_a_preset_is_known_and_fits(tmp_path, preset):
    """Only the log is missing: all options were read, checked, and the later --workdir won."""
    done = command("experiment", f"--flagfile={preset}", "--input=missing.csv", f"--workdir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(r"^error: \S+: expected a log file; there is no such file$", done.stderr, re.MULTILINE), done.stderr
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
