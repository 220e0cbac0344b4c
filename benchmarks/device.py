"""Bytes, milliseconds and memory of exported models with random parameters.

    python -m benchmarks.device                            # all cases and precisions
    python -m benchmarks.device --case=reference --quick   # the reference, in about a minute

Writes benchmarks/results/device-DEVICE.json; a quick run only prints, unless --out names a file. One update is over 8 sessions of 8
interactions, in case `fifty` over one of 50, as the cloud-client system updates (its own published figures stand beside); `baked` has a
user's parameters inside the file, `streamed` no item rows.
"""

import dataclasses
import tempfile
from pathlib import Path

import jax
import numpy as np

from benchmarks.recording import parser, record
from jaxrec.data.own_history import popularity
from jaxrec.device.export import Contents, export
from jaxrec.device.measure import MeasureOptions, measure
from jaxrec.device.shipped import ExportOptions
from jaxrec.models.recommender import Model, ModelOptions

ITEMS = 37_000
HISTORY = (1.0, 0.5, 0.3, 0.2, 1.0, -0.5, -1.0, -0.5)
BLOCKS = ExportOptions(train_rows=8, train_steps=8, train_negatives=128)
CASES = {
    "reference": BLOCKS,
    "fifty": dataclasses.replace(BLOCKS, train_rows=1, train_steps=50),
    "baked": dataclasses.replace(BLOCKS, baked=True),
    "streamed": dataclasses.replace(BLOCKS, rows="streamed"),
}
PRECISIONS = ("float32", "float16", "int8")
COLUMNS = (
    *("bytes", "recommend_p50_ms", "recommend_all_p50_ms", "step_p50_ms", "score_p50_ms", "train_p50_ms", "train_cpu_ms", "loss_p50_ms"),
    *("peak_rss_mb", "export_seconds"),
)
PUBLISHED = {"case": "update over 50 interactions", "peer": "cloud-client system, TensorFlow.js in Chrome on a laptop (as published)"}


def run_case(case: str, precision: str, calls: int) -> dict:
    """Export and measure one case; a row of the results."""
    model = Model(ModelOptions(units=(100,), embedding_dim=64), ITEMS)
    counts = np.random.default_rng(0).integers(1, 1000, ITEMS)
    # Columns that are equal would be stored as one.
    params = model.init(jax.random.key(0)) | {"item_bias": np.log(counts).astype(np.float32)}
    contents = Contents(model, params, np.sqrt(counts), popularity(counts), HISTORY)
    with tempfile.TemporaryDirectory() as folder:
        export(contents, dataclasses.replace(CASES[case], precision=precision), Path(folder))
        found = measure(Path(folder), MeasureOptions(measure_calls=calls, measure_threads=(1,)))
    return {"case": case, "precision": precision, **{name: found.get("model_bytes" if name == "bytes" else name) for name in COLUMNS}}


def main() -> None:
    given = parser(__doc__, CASES).parse_args()
    precisions, calls = (PRECISIONS[:1], 200) if given.quick else (PRECISIONS, 1000)
    rows = [run_case(case, precision, calls) for case in ([given.case] if given.case else CASES) for precision in precisions]
    record(given, "device", [*rows, {**PUBLISHED, "train_p50_ms": 53_000.0, "peak_rss_mb": 1030.6}])


if __name__ == "__main__":
    main()
