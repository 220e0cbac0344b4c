"""Measure an exported model as a device runs it: milliseconds of every signature, processor and memory of the process, bytes, operations.

Example: python -m launch.measure --workdir=runs/shop
         python -m launch.measure --compare=runs/shop,runs/shop_int8
"""

from pathlib import Path

from jaxrec.device.measure import MeasureOptions
from jaxrec.errors import InputError
from jaxrec.stages.measure import compare_exports, run_measure, shown
from launch import flags

WORKDIR = flags.path("workdir", "folder of a run with the folder `device` that export wrote")
COMPARE = flags.text("compare", "workdirs or device folders to set side by side, separated by commas; instead of --workdir")
OVERWRITE = flags.switch("overwrite", "measure again what was measured otherwise")
OPTIONS = flags.options(MeasureOptions)


def main() -> None:
    """Measure, then print the tables."""
    if COMPARE() is not None and WORKDIR() is not None:
        raise InputError("--compare: expected alone; --workdir was given too")
    if COMPARE() is not None:
        print(compare_exports([Path(place) for place in COMPARE().split(",") if place], OPTIONS(), OVERWRITE()))
    else:
        print(shown(run_measure(flags.required(WORKDIR(), "workdir"), OPTIONS(), OVERWRITE())))


if __name__ == "__main__":
    flags.run(main)
