"""A stage that finished with the same settings is not done again."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxrec.errors import InputError
from jaxrec.files import read_json, write_json

log = logging.getLogger("jaxrec")


def once(result: Path, settings: dict[str, Any], overwrite: bool, work: Callable[[], dict]) -> dict:
    """Do `work` and keep what it returns in the JSON file `result`, beside the settings that it came from.

    Where `result` already stands with the same settings, it is read and nothing is done; with others it is refused unless `overwrite`.

    Raises:
      InputError: the result stands there with other settings; names each difference.
    """
    if result.exists():
        written = read_json(result, "result of an earlier run")
        differences = _differences(written.get("settings", {}), settings)
        if not differences:
            log.info("%s: already done with these settings, kept", result.parent)
            return written
        if not overwrite:
            raise InputError(f"{result}: was made with other settings ({'; '.join(differences)}); --overwrite replaces it")
        result.unlink()
    value = {**work(), "settings": settings}
    write_json(result, value)
    return value


def _differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {a!r} there, {b!r} now")
    return found
