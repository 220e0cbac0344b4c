"""The measurement stage: latency and memory of the exported folder, kept beside it."""

from pathlib import Path
from typing import Any

from jaxrec.device.measure import MeasureOptions, measure
from jaxrec.device.state import MANIFEST
from jaxrec.files import read_json
from jaxrec.stages.once import once, settings_of

RESULT = Path("device/measurement.json")


def run_measure(workdir: Path, options: MeasureOptions, overwrite: bool = False) -> dict[str, Any]:
    """Measure `workdir`/device and write its measurement.json (returned).

    Raises:
      InputError: nothing was exported, or another model or other settings were measured there and `overwrite` is off.
    """
    folder = (workdir / RESULT).parent
    inputs = {"exported model": read_json(folder / MANIFEST, "device manifest")["sha256"]}
    return once(workdir / RESULT, settings_of(options), inputs, overwrite, lambda: measure(folder, options))
