"""Options of training as the presets in `configs/` write them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxrec.learning.recipe import LossOptions, OptimizerOptions, Recipe, RunOptions
from jaxrec.models.recommender import ModelOptions
from jaxrec.options import value_type

CONFIGS = Path(__file__).parent.parent / "configs"
# The parameters that the official implementation was run with on diginetica_quarter for its cross-entropy.
DIGINETICA_XE = (
    *("--units=192", "--embedding_dim=192", "--nodense", "--loss=cross-entropy", "--lanes=128", "--dropout_p_embed=0.45"),
    *("--dropout_p_hidden=0.15", "--learning_rate=0.1", "--n_sample=2048", "--sample_alpha=0", "--logq=1", "--validation_fraction=0"),
)


def preset_lines(name: str) -> list[str]:
    """The flags of a preset, `--name=value` each."""
    lines = (CONFIGS / f"{name}.flags").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.startswith("--")]


def read_options(lines: Iterable[str]) -> tuple[ModelOptions, Recipe]:
    """Options from `--name=value`, `--name` or `--noname`; later ones win.

    Raises:
      ValueError: one of them is no option of training.
    """
    given = dict(map(_flag, lines))
    model, *recipe = (_take(kind, given) for kind in (ModelOptions, LossOptions, OptimizerOptions, RunOptions))
    if given:
        raise ValueError(f"expected options of training; got {', '.join(given)}")
    return model, Recipe(*recipe)


def _flag(line: str) -> tuple[str, Any]:
    name, equals, value = line.removeprefix("--").partition("=")
    return (name, value) if equals else (name.removeprefix("no"), not name.startswith("no"))


def _take(kind: type, given: dict[str, Any]) -> Any:
    """The options of one kind, taken out of what was given."""
    values = {}
    for name in kind.__dataclass_fields__.keys() & given.keys():
        convert, many, _ = value_type(kind.__dataclass_fields__[name])
        value = given.pop(name)
        values[name] = tuple(map(convert, value.split(","))) if many else convert(value)
    return kind(**values)
