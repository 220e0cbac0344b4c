"""A finished stage is not done again; one that failed or was made otherwise never passes for finished."""

import json

import pytest

from jaxrec.errors import InputError
from jaxrec.files import write_json
from jaxrec.learning.personal_recipe import PersonalOptions
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, RunOptions
from jaxrec.models.recommender import ModelOptions
from jaxrec.report.environment import environment
from jaxrec.stages.once import go_on_or_begin, once, settings_of


class Stage:
    """Counts how often it works."""

    def __init__(self, folder):
        self.result, self.done = folder / "stage" / "metrics.json", 0

    def work(self):
        self.done += 1
        return {"done": self.done}

    def run(self, settings=None, inputs=None, overwrite=False, work=None):
        return once(self.result, settings or {"epochs": 3}, inputs or {"dataset": "abc"}, overwrite, work or self.work)


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def test_the_second_run_gives_what_the_first_wrote(stage, caplog):
    first = stage.run()
    about = {"seconds": first["seconds"], "environment": environment()}
    assert first == {"done": 1, "settings": {"epochs": 3}, "inputs": {"dataset": "abc"}, **about}
    assert first["seconds"] >= 0
    with caplog.at_level("INFO", "jaxrec"):
        assert stage.run() == stage.run(overwrite=True) == first == json.loads(stage.result.read_text())
    assert stage.done == 1
    assert "already done" in caplog.text


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"settings": {"epochs": 4}}, r"--epochs: 3 there, 4 now"),
        ({"settings": {"epochs": 3, "lanes": 2}}, r"--lanes: None there, 2 now"),
        ({"inputs": {"dataset": "xyz"}}, r"the dataset: 'abc' there, 'xyz' now"),
        ({"settings": {"epochs": 4}, "inputs": {"dataset": "xyz"}}, r"--epochs.*; the dataset"),
    ],
)
def test_other_settings_or_inputs_are_refused_unless_overwritten(stage, changed, fault):
    stage.run()
    before = stage.result.read_bytes()
    with pytest.raises(InputError, match=f"metrics.json: was made otherwise .*{fault}.*--overwrite"):
        stage.run(**changed)
    assert (stage.done, stage.result.read_bytes()) == (1, before)
    assert stage.run(**changed, overwrite=True)["done"] == 2
    assert stage.run(**changed)["done"] == 2


def test_another_machine_does_not_do_it_again(stage, monkeypatch):
    first = stage.run()
    monkeypatch.setattr("jaxrec.stages.once.environment", lambda: {"device": "another"})
    assert stage.run() == first and stage.done == 1


def test_work_that_fails_leaves_no_result(stage):
    def broken():
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        stage.run(work=broken)
    assert not stage.result.exists()
    assert stage.run()["done"] == 1
    with pytest.raises(ArithmeticError):
        stage.run({"epochs": 4}, overwrite=True, work=broken)
    assert not stage.result.exists(), "the folder may hold parts of both: neither is finished"


def test_two_at_once_do_not_work_on_the_same(stage):
    def meanwhile():
        with pytest.raises(InputError, match="stage: expected no other command that works there; one is at work"):
            stage.run()
        return stage.work()

    assert stage.run(work=meanwhile)["done"] == stage.run()["done"] == 1
    assert [path.name for path in stage.result.parent.parent.iterdir()] == ["stage"]


def test_what_another_finished_meanwhile_is_not_replaced(stage, monkeypatch):
    """The first look finds nothing, the one under the lock does."""
    stage.run()
    before, looks = stage.result.read_bytes(), iter([False, True])
    monkeypatch.setattr(type(stage.result), "exists", lambda path: next(looks, True))
    with pytest.raises(InputError, match="was made otherwise"):
        stage.run({"epochs": 4})
    assert stage.result.read_bytes() == before and stage.done == 1


def test_a_result_that_is_no_json_is_named(stage):
    stage.run()
    stage.result.write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json: expected a result of an earlier run"):
        stage.run()


@pytest.mark.parametrize("kind", [ModelOptions, LossOptions, OptimizerOptions, RunOptions, PersonalOptions])
def test_settings_are_the_same_after_json(stage, kind):
    settings = settings_of(kind())
    assert settings.keys() == {name for name, field in kind.__dataclass_fields__.items() if field.metadata["changes_result"]}
    stage.run(settings)
    stage.run(settings)
    assert stage.done == 1


def test_settings_of_several_stages_stand_side_by_side():
    assert settings_of(ModelOptions(units=(3, 2)), LossOptions())["units"] == [3, 2]
    assert (
        settings_of(ModelOptions(), LossOptions()).keys()
        == ModelOptions.__dataclass_fields__.keys() | LossOptions.__dataclass_fields__.keys()
    )


def started(epochs):
    return {"settings": {"epochs": epochs}, "inputs": {}}


@pytest.mark.parametrize(
    ("record", "holds", "told"),
    [
        (started(3), True, None),
        (started(4), True, r"started otherwise \(--epochs: 4 there, 3 now\); --overwrite replaces it"),
        (None, True, r"started otherwise \(it has no started\.json\); --overwrite replaces it"),
        (started(4), False, None),
        (None, False, None),
    ],
)
def test_work_goes_on_where_its_start_is_the_same_and_is_not_removed_unasked(tmp_path, record, holds, told):
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "note.txt").touch()
    if record:
        write_json(folder / "started.json", record)
    if holds:
        (folder / "chunk-0").touch()
    if told:
        with pytest.raises(InputError, match=told):
            go_on_or_begin(folder, started(3), "chunk*", False)
        assert (folder / "chunk-0").exists()
    go_on_or_begin(folder, started(3), "chunk*", bool(told))
    assert json.loads((folder / "started.json").read_text()) == started(3)
    assert (folder / "chunk-0").exists() == (holds and not told)
    go_on_or_begin(folder, started(3), "chunk*", False)
