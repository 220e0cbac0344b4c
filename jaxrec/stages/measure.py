"""The measurement stage: latency and memory of the exported folder, kept beside it."""

import dataclasses
from pathlib import Path
from typing import Any

from jaxrec.device.measure import MeasureOptions, measure
from jaxrec.device.runtime import MANIFEST
from jaxrec.files import read_json
from jaxrec.stages.once import once


def run(workdir: Path, options: MeasureOptions, overwrite: bool) -> dict[str, Any]:
    """Measure `workdir`/device and write its measurement.json; returns the figures.

    Raises:
      InputError: nothing was exported, or another model or other settings were measured there and `overwrite` is off.
    """
    folder = workdir / "device"
    model = read_json(folder / MANIFEST, "device manifest")["sha256"]
    return once(folder / "measurement.json", {**dataclasses.asdict(options), "model": model}, overwrite, lambda: measure(folder, options))
