"""The measurement stage: figures of exported folders, kept beside the model with a picture; several exports side by side."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jaxrec.device.measure import MeasureOptions, measure
from jaxrec.device.state import MANIFEST, MODEL
from jaxrec.errors import InputError
from jaxrec.files import read_json, whole_file
from jaxrec.report.device_plots import device_picture
from jaxrec.report.device_tables import operations, overview, timings
from jaxrec.report.tables import join, table
from jaxrec.stages.once import once, settings_of

DEVICE, RESULT, PICTURE = "device", "measurement.json", "measurement.svg"


def run_measure(workdir: Path, options: MeasureOptions, overwrite: bool = False) -> dict[str, Any]:
    """Measure `workdir`/device and write its measurement.json (returned) and measurement.svg.

    Raises:
      InputError: nothing was exported, or another model or other settings were measured there and `overwrite` is off.
    """
    return _measured(workdir / DEVICE, options, overwrite)


def shown(found: dict[str, Any]) -> str:
    """A measurement as tables for the terminal."""
    return _tables({"": found})


def compare_exports(places: Sequence[Path], options: MeasureOptions, overwrite: bool = False) -> str:
    """Tables of several exports side by side; one that was not measured is, with `options`, and so is every one if `overwrite`.

    Args:
      places: workdirs with the folder `device`, or such folders.

    Raises:
      InputError: one of them is no export, or its measurement is of an earlier one.
    """
    if not places:
        raise InputError("--compare: expected workdirs or device folders, separated by commas; got none")
    folders = {str(place): _exported(place) for place in places}
    return _tables({name: _kept(folder, options, overwrite) for name, folder in folders.items()})


def _exported(place: Path) -> Path:
    for folder in (place, place / DEVICE):
        # A dataset has a manifest too.
        if (folder / MANIFEST).exists() and (folder / MODEL).exists():
            return folder
    raise InputError(
        f"--compare: expected workdirs or device folders that export wrote; got {place}, where no {MANIFEST} with a {MODEL} lies"
    )


def _kept(folder: Path, options: MeasureOptions, overwrite: bool) -> dict[str, Any]:
    """The measurement that lies there whatever its settings, so that runs made with others compare."""
    if overwrite or not (folder / RESULT).exists():
        return _measured(folder, options, overwrite)
    found = read_json(folder / RESULT, "device measurement")
    if found.get("inputs") != _inputs(folder):
        raise InputError(
            f"{folder / RESULT}: expected the measurement of the model that is there; it is of an earlier one, use --overwrite"
        )
    return found


def _measured(folder: Path, options: MeasureOptions, overwrite: bool) -> dict[str, Any]:
    found = once(folder / RESULT, settings_of(options), _inputs(folder), overwrite, lambda: measure(folder, options))
    with whole_file(folder / PICTURE) as partial:
        partial.write_text(device_picture(found), encoding="utf-8")
    return found


def _inputs(folder: Path) -> dict[str, str]:
    return {"exported model": read_json(folder / MANIFEST, "device manifest")["sha256"]}


def _tables(exports: dict[str, dict[str, Any]]) -> str:
    """Every table, the exports side by side."""
    brief = len(exports) > 1
    builders = (overview, partial(timings, brief=brief), partial(operations, brief=brief))
    found = [{name: built for name, one in exports.items() if (built := build(one)) is not None} for build in builders]
    joined = [join(tables) for tables in found if tables]
    return "\n\n".join(table(one.header, one.rows) for one in joined)
