"""absl flags derived from the option dataclasses, and the way every command starts.

Defaults, help texts and limits stay in the dataclasses; presets are files of flags (`--flagfile=configs/NAME.flags`), later flags win.
"""

import dataclasses
import inspect
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from absl import app, flags
from absl import logging as absl_logging

from jaxrec.errors import InputError
from jaxrec.options import Options, value_type

O = TypeVar("O", bound=Options)  # noqa: E741


def options(kind: type[O]) -> Callable[[], O]:
    """Define one flag per field of an options dataclass; call the result after parsing to get the object."""
    for field in dataclasses.fields(kind):
        if field.name not in flags.FLAGS:
            _define(field)
    names = [field.name for field in dataclasses.fields(kind)]
    return lambda: kind(**{name: _value(kind, name) for name in names})


def path(name: str, help: str, *, many: bool = False) -> Callable[[], Any]:
    """Define a flag for a file or folder; call the result after parsing for a Path, or None; where `many`, for a list of them."""
    if name not in flags.FLAGS:
        define = flags.DEFINE_multi_string if many else flags.DEFINE_string
        define(name, None, help)
        _make_key(name)
    convert = (lambda given: [Path(one) for one in given or []]) if many else (lambda given: None if given is None else Path(given))
    return lambda: convert(flags.FLAGS[name].value)


def text(name: str, help: str) -> Callable[[], str | None]:
    """Define a flag for a text; call the result after parsing for it, or None."""
    if name not in flags.FLAGS:
        flags.DEFINE_string(name, None, help)
        _make_key(name)
    return lambda: flags.FLAGS[name].value


def switch(name: str, help: str) -> Callable[[], bool]:
    """Define a flag that is off unless given."""
    if name not in flags.FLAGS:
        flags.DEFINE_bool(name, False, help)
        _make_key(name)
    return lambda: flags.FLAGS[name].value


def required(given: Path | None, name: str) -> Path:
    """The given path, or an error that names the missing flag."""
    if given is None:
        raise InputError(f"--{name}: expected a path; the flag was not given")
    return given


def run(main: Callable[[], None]) -> None:
    """Parse the flags and run a command; wrong input ends in one line on standard error and exit code 1."""
    module = inspect.getmodule(main)
    if module is not None and module.__doc__:
        sys.modules["__main__"].__doc__ = module.__doc__

    def guarded(arguments: list[str]) -> None:
        _set_up_logs()
        try:
            if len(arguments) > 1:
                raise InputError(f"expected flags only; got the argument {arguments[1]!r}")
            main()
        except (InputError, OSError) as error:
            _end(f"error: {error}")
        except KeyboardInterrupt:
            _end("interrupted; run the same command again to go on")

    app.run(guarded, flags_parser=_parse)


def _end(message: str) -> None:
    """End with a line on standard error and exit code 1."""
    jax = sys.modules.get("jax")
    if jax is not None and jax.distributed.is_initialized():
        # The usual end would wait minutes for processes that may be gone.
        print(message, file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)
    sys.exit(message)


def _parse(arguments: list[str]) -> list[str]:
    """absl's parser, with its errors in one line like every other."""
    try:
        return flags.FLAGS(arguments)
    except flags.Error as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


def _set_up_logs() -> None:
    """jaxrec's own few lines on standard error, as plain text; of other libraries only warnings."""
    logging.getLogger().setLevel(logging.WARNING)
    absl_logging.set_verbosity(absl_logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    own = logging.getLogger("jaxrec")
    own.setLevel(logging.INFO)
    own.addHandler(handler)
    own.propagate = False


def _define(field: dataclasses.Field) -> None:
    kind, many, _ = value_type(field)
    default, text = field.default, field.metadata["help"]
    if many:
        text, default = f"{text} (a comma-separated list)", None if default is None else [str(one) for one in default]
        flags.DEFINE_list(field.name, default, text)
    elif field.metadata["choices"]:
        flags.DEFINE_enum(field.name, default, [str(one) for one in field.metadata["choices"]], text)
    else:
        define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, bool: flags.DEFINE_bool, str: flags.DEFINE_string}[kind]
        define(field.name, default, text)
    _make_key(field.name)


def _make_key(name: str) -> None:
    """Show the flag in the `--help` of the command that is running."""
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


def _value(kind: type[Options], name: str) -> Any:
    type_, many, _ = value_type(kind.__dataclass_fields__[name])
    given = flags.FLAGS[name].value
    if not many or given is None:
        return given
    try:
        return tuple(type_(one) for one in given)
    except ValueError:
        raise InputError(f"--{name}: expected a comma-separated list of {type_.__name__}; got {','.join(given)!r}") from None
