"""Bytes, milliseconds and memory of exported models with random parameters.

    python -m benchmarks.device                            # all cases and precisions
    python -m benchmarks.device --case=reference --quick   # the reference, in about a minute

Writes benchmarks/results/device-DEVICE.json; a quick run only prints, unless --out names a file. One update of `reference` is over one
session of 20 interactions, of `sessions` over 8 sessions of 8, as fine-tuning blocks them.
"""

import argparse
import os
import tempfile
from pathlib import Path

import jax
import numpy as np

from jaxrec.device.export import export
from jaxrec.device.measure import MeasureOptions, measure
from jaxrec.device.signatures import ExportOptions
from jaxrec.files import write_json
from jaxrec.models.recommender import Model, ModelOptions
from jaxrec.report.environment import environment

ITEMS = 37_000
CASES = {
    "reference": {"train_rows": 1, "train_steps": 20},
    "sessions": {"train_rows": 8, "train_steps": 8},
}
PRECISIONS = ("float32", "float16", "int8")
COLUMNS = ("bytes", "recommend_p50_ms", "recommend_all_p50_ms", "step_p50_ms", "train_p50_ms", "peak_rss_mb", "export_seconds")
RESULTS = Path(__file__).parent / "results"


def run_case(case: str, precision: str, calls: int) -> dict:
    """Export and measure one case; a row of the results."""
    model = Model(ModelOptions(units=(100,), embedding_dim=64), ITEMS)
    params = model.init(jax.random.key(0))
    options = ExportOptions(precision=precision, **CASES[case])
    with tempfile.TemporaryDirectory() as folder:
        export(model, params, 0.5, np.zeros(ITEMS, np.float32), options, Path(folder))
        found = measure(Path(folder), MeasureOptions(measure_calls=calls))
    return {"case": case, "precision": precision, **{name: found["model_bytes" if name == "bytes" else name] for name in COLUMNS}}


def show(row: dict) -> str:
    """A line of the table."""
    cells = (f"{row[name]:,}" if name == "bytes" else f"{row[name]:.3f}" for name in COLUMNS)
    return f"{row['case']:>10} {row['precision']:>10} " + " ".join(
        f"{cell:>{max(len(name), 9)}}" for cell, name in zip(cells, COLUMNS, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=tuple(CASES), help="only this case")
    parser.add_argument("--quick", action="store_true", help="float32 only, fewer calls; nothing is written")
    parser.add_argument("--device", default=f"cpu{os.cpu_count()}", help="name of this machine in the file of results")
    parser.add_argument("--out", type=Path, help="file of results; by default the one that is recorded, none for a quick run")
    given = parser.parse_args()
    print(f"{'case':>10} {'precision':>10} " + " ".join(f"{name:>9}" for name in COLUMNS))
    rows = []
    for case in [given.case] if given.case else CASES:
        for precision in PRECISIONS[:1] if given.quick else PRECISIONS:
            rows.append(run_case(case, precision, 200 if given.quick else 1000))
            print(show(rows[-1]), flush=True)
    out = given.out or (None if given.quick else RESULTS / f"device-{given.device}.json")
    if out is not None:
        write_json(out, {"environment": environment(), "rows": rows})


if __name__ == "__main__":
    main()
