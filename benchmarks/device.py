"""Bytes, milliseconds and memory of exported models with random parameters.

    python -m benchmarks.device                            # all cases and precisions
    python -m benchmarks.device --case=reference --quick   # the reference, in about a minute

Writes benchmarks/results/device-DEVICE.json; a quick run only prints, unless --out names a file. One update of `reference` is over one
session of 20 interactions, of `sessions` over 8 sessions of 8, as fine-tuning blocks them.
"""

import tempfile
from pathlib import Path

import jax
import numpy as np

from benchmarks.recording import parser, record
from jaxrec.device.export import export
from jaxrec.device.measure import MeasureOptions, measure
from jaxrec.device.signatures import ExportOptions
from jaxrec.models.recommender import Model, ModelOptions

ITEMS = 37_000
CASES = {
    "reference": {"train_rows": 1, "train_steps": 20},
    "sessions": {"train_rows": 8, "train_steps": 8},
}
PRECISIONS = ("float32", "float16", "int8")
COLUMNS = ("bytes", "recommend_p50_ms", "recommend_all_p50_ms", "step_p50_ms", "train_p50_ms", "peak_rss_mb", "export_seconds")


def run_case(case: str, precision: str, calls: int) -> dict:
    """Export and measure one case; a row of the results."""
    model = Model(ModelOptions(units=(100,), embedding_dim=64), ITEMS)
    params = model.init(jax.random.key(0))
    options = ExportOptions(precision=precision, **CASES[case])
    with tempfile.TemporaryDirectory() as folder:
        export(model, params, 0.5, np.zeros(ITEMS, np.float32), options, Path(folder))
        found = measure(Path(folder), MeasureOptions(measure_calls=calls))
    return {"case": case, "precision": precision, **{name: found["model_bytes" if name == "bytes" else name] for name in COLUMNS}}


def main() -> None:
    given = parser(__doc__, CASES).parse_args()
    precisions, calls = (PRECISIONS[:1], 200) if given.quick else (PRECISIONS, 1000)
    record(
        given, "device", [run_case(case, precision, calls) for case in ([given.case] if given.case else CASES) for precision in precisions]
    )


if __name__ == "__main__":
    main()
