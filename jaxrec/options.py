"""Options of a stage: a frozen dataclass is the one home of their defaults, help texts and limits.

>>> @dataclasses.dataclass(frozen=True)
... class BakeOptions(Options):
...     heat: float = option(180.0, "degrees Celsius", minimum=20)
...     form: str = option("round", "shape of the cake", choices=("round", "square"))
>>> BakeOptions(heat=200.0).form
'round'
>>> BakeOptions(form="oval")
Traceback (most recent call last):
...
jaxrec.errors.InputError: --form: expected one of round, square; got 'oval'
"""

import dataclasses
import math
import types
import typing
from typing import Any

from jaxrec.errors import InputError


def option(
    default: Any,
    help: str,
    *,
    choices: tuple = (),
    minimum: float | None = None,
    maximum: float | None = None,
    changes_result: bool = True,
) -> Any:
    """A dataclass field with a default, a help text and, where they apply, allowed values or limits (inclusive).

    Args:
      changes_result: whether a run that was begun with another value would have another result.
    """
    metadata = {"help": help, "choices": choices, "minimum": minimum, "maximum": maximum, "changes_result": changes_result}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of every stage's options: values are checked when the object is made."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))


def value_type(field: dataclasses.Field) -> tuple[type, bool, bool]:
    """(type of one value, is a tuple of them, may be None) of an option's annotation.

    >>> value_type(dataclasses.make_dataclass("O", [("units", tuple[int, ...])]).__dataclass_fields__["units"])
    (<class 'int'>, True, False)
    """
    annotation, optional = field.type, False
    if isinstance(annotation, types.UnionType):
        (annotation,) = (part for part in typing.get_args(annotation) if part is not type(None))
        optional = True
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0], True, optional
    return annotation, False, optional


def _check(field: dataclasses.Field, value: Any) -> None:
    kind, many, optional = value_type(field)
    if value is None and optional:
        return
    for one in value if many else (value,):
        _check_one(field, kind, one)


def _check_one(field: dataclasses.Field, kind: type, value: Any) -> None:
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise InputError(f"--{field.name}: expected {kind.__name__}; got {value!r}")
    limits = field.metadata
    if limits["choices"] and value not in limits["choices"]:
        raise InputError(f"--{field.name}: expected one of {', '.join(map(str, limits['choices']))}; got {value!r}")
    if kind is float and not math.isfinite(value):
        raise InputError(f"--{field.name}: expected a finite number; got {value!r}")
    if limits["minimum"] is not None and value < limits["minimum"]:
        raise InputError(f"--{field.name}: expected at least {limits['minimum']}; got {value!r}")
    if limits["maximum"] is not None and value > limits["maximum"]:
        raise InputError(f"--{field.name}: expected at most {limits['maximum']}; got {value!r}")
