"""Options of all stages: few, explained, with names of their own; values that do not fit are named."""

import dataclasses
import importlib
import inspect
import pkgutil
from collections import Counter

import pytest

import jaxrec
from jaxrec.errors import InputError
from jaxrec.options import Options, option, value_type

MOST_FIELDS = 15
SHARED_ON_PURPOSE: dict[str, int] = {}
"""Names that several stages share because they mean the same in each, with the number of these stages."""


def dataclasses_of_the_project() -> list[type]:
    modules = [importlib.import_module(info.name) for info in pkgutil.walk_packages(jaxrec.__path__, "jaxrec.")]
    found = [one for module in modules for _, one in inspect.getmembers(module, inspect.isclass) if one.__module__ == module.__name__]
    return [one for one in found if dataclasses.is_dataclass(one)]


ALL = dataclasses_of_the_project()
STAGES = [one for one in ALL if issubclass(one, Options) and one is not Options]
FIELDS = [(kind, field) for kind in STAGES for field in dataclasses.fields(kind)]


def test_the_stages_are_found():
    assert {"PrepareOptions", "ModelOptions", "RunOptions", "PersonalOptions", "ExportOptions"} <= {kind.__name__ for kind in STAGES}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_no_dataclass_grows_past_its_limit(kind):
    assert len(dataclasses.fields(kind)) <= MOST_FIELDS, f"{kind.__module__}.{kind.__name__}: split it"


@pytest.mark.parametrize("kind", STAGES, ids=lambda kind: kind.__name__)
def test_every_option_has_help_and_a_type_that_a_flag_can_have(kind):
    assert kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}("), "a docstring of its own, not the one dataclasses make"
    for field in dataclasses.fields(kind):
        assert len(field.metadata.get("help", "").split()) > 0, f"{kind.__name__}.{field.name} has no help"
        assert not field.metadata["help"].endswith("."), f"{kind.__name__}.{field.name}: a phrase, not a sentence"
        type_, _, _ = value_type(field)
        assert type_ in (int, float, bool, str), f"{kind.__name__}.{field.name}: {type_}"
        assert not field.metadata["choices"] or type_ is str, f"{kind.__name__}.{field.name}: choices are words"


@pytest.mark.parametrize("kind", STAGES, ids=lambda kind: kind.__name__)
def test_defaults_fit_their_own_limits(kind):
    assert kind() == kind()


def test_names_are_unique_over_all_stages():
    """`experiment` takes the options of all stages as flags, so one name may mean one thing only."""
    count = Counter(field.name for _, field in FIELDS)
    assert {name: n for name, n in count.items() if n > 1} == SHARED_ON_PURPOSE


@dataclasses.dataclass(frozen=True)
class Cake(Options):
    """A cake."""

    heat: float = option(180.0, "degrees Celsius", minimum=20, maximum=300)
    eggs: int = option(3, "eggs", minimum=0)
    form: str = option("round", "shape", choices=("round", "square"))
    layers: tuple[int, ...] = option((1, 2), "thickness of each layer", minimum=1)
    vegan: bool = option(False, "without eggs")
    name: str | None = option(None, "written on top")


@pytest.mark.parametrize(
    "values",
    [
        {"heat": 20},
        {"heat": 300.0},
        {"eggs": 0},
        {"form": "square"},
        {"layers": ()},
        {"layers": (1,)},
        {"vegan": True},
        {"name": None},
        {"name": ""},
    ],
)
def test_values_that_fit_up_to_their_limits(values):
    made = Cake(**values)
    assert {name: getattr(made, name) for name in values} == values


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"heat": 19.9}, "--heat: expected at least 20; got 19.9"),
        ({"heat": 300.1}, "--heat: expected at most 300; got 300.1"),
        ({"heat": float("nan")}, "--heat: expected a finite number; got nan"),
        ({"heat": float("inf")}, "--heat: expected a finite number; got inf"),
        ({"heat": "hot"}, "--heat: expected float; got 'hot'"),
        ({"heat": None}, "--heat: expected float; got None"),
        ({"eggs": 2.0}, "--eggs: expected int; got 2.0"),
        ({"eggs": True}, "--eggs: expected int; got True"),
        ({"form": "oval"}, "--form: expected one of round, square; got 'oval'"),
        ({"layers": (1, 0)}, "--layers: expected at least 1; got 0"),
        ({"layers": (1, "b")}, "--layers: expected int; got 'b'"),
        ({"vegan": 1}, "--vegan: expected bool; got 1"),
        ({"name": 3}, "--name: expected str; got 3"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_was_expected(values, fault):
    with pytest.raises(InputError) as caught:
        Cake(**values)
    assert str(caught.value) == fault


def test_a_replaced_value_is_checked_too():
    with pytest.raises(InputError, match="--eggs"):
        dataclasses.replace(Cake(), eggs=-1)


def test_types_of_options_as_flags_need_them():
    found = {field.name: value_type(field) for field in dataclasses.fields(Cake)}
    assert found["layers"] == (int, True, False)
    assert found["name"] == (str, False, True)
    assert found["heat"] == (float, False, False)
