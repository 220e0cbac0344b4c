"""Measure an exported model as a device runs it: milliseconds of every signature, memory of the process.

Example: python -m launch.measure --workdir=runs/shop
"""

from jaxrec.device.measure import MeasureOptions
from jaxrec.stages.measure import run_measure
from launch import flags

WORKDIR = flags.path("workdir", "folder of a run with the folder `device` that export wrote")
OVERWRITE = flags.switch("overwrite", "measure again what was measured otherwise")
OPTIONS = flags.options(MeasureOptions)


def main() -> None:
    """Measure, then print one line per signature."""
    found = run_measure(flags.required(WORKDIR(), "workdir"), OPTIONS(), OVERWRITE())
    for name in (key.removesuffix("_p95_ms") for key in found if key.endswith("_p95_ms")):
        print(f"{name:14} p50 {found[f'{name}_p50_ms']:8.3f} ms   p95 {found[f'{name}_p95_ms']:8.3f} ms")
    memory = "unknown" if found["peak_rss_mb"] is None else f"{found['peak_rss_mb']:.1f} MB"
    print(f"model {found['model_bytes']:,} bytes; peak memory beyond a bare process {memory}")


if __name__ == "__main__":
    flags.run(main)
