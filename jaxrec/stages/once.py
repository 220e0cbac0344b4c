"""A stage that finished with the same settings on the same inputs is not done again."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxrec.errors import InputError
from jaxrec.files import claimed, read_json, remove_folder, write_json
from jaxrec.learning.processes import leads, wait_for_all
from jaxrec.report.environment import environment

log = logging.getLogger("jaxrec")

STARTED = "started.json"
"""In a folder that may be filled piece by piece: the settings and inputs that its content comes from."""


def once(
    result: Path,
    settings: dict[str, Any],
    inputs: dict[str, str],
    overwrite: bool,
    work: Callable[[], Any],
    write: Callable[[Any], dict] | None = None,
) -> dict:
    """Do `work` and keep what it returns in the JSON file `result`, beside what it came from, what it ran on and the seconds it took.

    Where `result` already stands with the same settings and inputs, it is read and nothing is done; otherwise it is refused unless
    `overwrite`.

    Args:
      settings: options of the stage, by name.
      inputs: fingerprint of each thing it reads, by name.
      write: where it is given, an earlier result stands until `work` has succeeded, which changes none of its files before. Then `write`
        puts down what it found and returns what is kept. In one process only.

    Raises:
      InputError: the result stands there with other settings or inputs, each of which is named, or another command is at work on it.
    """
    now = {"settings": settings, "inputs": inputs}
    if (done := _done(result, now, overwrite)) is not None:
        return done
    with claimed(result.parent, "work") if leads() else contextlib.nullcontext():
        wait_for_all(f"{result} is nobody else's work")
        if (done := _done(result, now, overwrite)) is not None:  # by another command, meanwhile
            return done
        wait_for_all(f"{result} is to be made")  # nothing is removed unless all agree
        log.info("%s: started", result.parent)
        began = time.perf_counter()
        made = work() if write else None
        if leads():
            result.unlink(missing_ok=True)
        gave = write(made) if write else work()
        value = {**gave, "seconds": time.perf_counter() - began, **now, "environment": environment()}
        if leads():
            write_json(result, value)
    return value


def _done(result: Path, now: dict, overwrite: bool) -> dict | None:
    """What stands there, if it was made as it would be now; None where nothing does, or what may be replaced."""
    if not result.exists():
        return None
    written = read_json(result, "result of an earlier run")
    found = differences(written, now)
    if not found:
        log.info("%s: already done with these settings, kept", result.parent)
        return written
    if not overwrite:
        raise InputError(f"{result}: was made otherwise ({'; '.join(found)}); --overwrite replaces it")
    return None


def go_on_or_begin(folder: Path, start: dict, content: str, overwrite: bool) -> None:
    """Make a folder ready for work that may have been cut short: what it holds comes from this start, or is gone. For all processes.

    Args:
      start: settings and inputs of now; the file STARTED in the folder tells those that its content comes from.
      content: pattern of what is not to be removed unasked.

    Raises:
      InputError: the folder holds content from another start, and `overwrite` is off; or another process was given another start.
    """
    record, what = folder / STARTED, "record of what a folder comes from"
    found = differences(read_json(record, what), start) if record.exists() else [f"it has no {STARTED}"]
    holds = any(folder.glob(content))
    if found and holds and not overwrite:
        raise InputError(f"{folder}: holds work that was started otherwise ({'; '.join(found)}); --overwrite replaces it")
    wait_for_all(f"{record} was compared")
    if leads() and found:
        if record.exists() or holds:
            remove_folder(folder)  # content must not be left without its record
        write_json(record, start)
    wait_for_all(f"{record} stands")
    if found := differences(read_json(record, what), start):
        raise InputError(f"{record}: expected the same options in all processes; got other ones here ({'; '.join(found)})")


def differences(written: dict, now: dict) -> list[str]:
    """In words, where the settings and inputs of something that was made are not those of now."""
    return _differences(written.get("settings", {}), now["settings"], "--") + _differences(written.get("inputs", {}), now["inputs"], "the ")


def _differences(old: dict, new: dict, prefix: str) -> list[str]:
    return [
        f"{prefix}{key}: {old.get(key)!r} there, {new.get(key)!r} now"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def settings_of(*options: Any) -> dict[str, Any]:
    """Options dataclasses as one dictionary by flag name, in the form that JSON gives back; without those that change no result."""
    fields = [(field, getattr(one, field.name)) for one in options for field in dataclasses.fields(one)]
    said = {field.name: value for field, value in fields if field.metadata.get("changes_result", True)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}
