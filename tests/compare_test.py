"""Several runs in one table: their figures, what makes them incomparable, and the settings that differ."""

import re
import shutil

import pytest
from report_test import change, fake_run

from jaxrec.errors import InputError
from jaxrec.stages.compare import compare


@pytest.fixture
def runs(tmp_path):
    return [fake_run(tmp_path / "a", epochs=5, units=100), fake_run(tmp_path / "b", epochs=8, units=100)]


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_figures_stand_in_the_column_of_their_run(runs):
    change(runs[1] / "train" / "metrics.json", **{"recall@20": 0.5})
    change(runs[1] / "device" / "measurement.json", train_p50_ms=99.9)
    text = compare(runs)
    assert row(text, "whole test: global model, Recall@20") == ["0.2810", "0.5000"]
    assert row(text, "device: one training update, median ms") == ["14.6", "99.9"]
    assert row(text, "device: personal bytes per user") == ["283.9 kB", "283.9 kB"]


def test_only_settings_that_differ_are_listed(runs):
    text = compare(runs)
    assert row(text, "train --epochs") == ["5", "8"]
    assert "units" not in text


def test_equal_settings_are_said_to_be_equal(runs):
    assert "The runs have the same settings." in compare([runs[0], fake_run(runs[0].parent / "c", epochs=5, units=100)])


def test_a_stage_that_one_run_lacks(runs):
    shutil.rmtree(runs[0] / "device")
    text = compare(runs)
    assert row(text, "device: model file") == ["–", "512.3 kB"]
    shutil.rmtree(runs[1] / "device")
    assert "device: model file" not in compare(runs)


def test_different_predictions_are_not_compared_silently(runs):
    assert "do not compare" not in compare(runs)
    change(runs[1] / "train" / "metrics.json", predictions=12)
    assert re.search(r"Not the same predictions over the whole test \(a 9,500, b 12\)", compare(runs))


def test_one_run_alone(runs):
    assert "Settings" not in compare(runs[:1])


def test_wrong_input(runs, tmp_path):
    with pytest.raises(InputError, match="typo"):
        compare([runs[0], tmp_path / "typo"])
    with pytest.raises(InputError, match="--workdir"):
        compare([])
