"""Whether the exported file ranks as JAX does: a whole test period by the device's runtime, prediction after prediction.

    python -m benchmarks.device_accuracy --data=FOLDER                # FOLDER holds rsc15_100k; trains first
    python -m benchmarks.device_accuracy --workdir=RUN                # of a model that is trained already, on RUN/dataset
    python -m benchmarks.device_accuracy --data=FOLDER --case=reference --quick

`reference`: item rows in float32; `float16`, `int8`: rows and frozen matrices in fewer bytes, beside what JAX gives with the same. Each row
has Recall@20 and MRR@20 by `recommend_all` of the .tflite (contexts of 20 clicks, as exported) and by JAX (whole sessions).
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.presets import CONFIGS
from benchmarks.recording import parser, record
from jaxrec.compression.rows import as_encoded
from jaxrec.data.dataset import Dataset
from jaxrec.data.storage import load_dataset
from jaxrec.device.runtime import DeviceModel
from jaxrec.device.shipped import ExportOptions
from jaxrec.evaluation.metrics import metrics, per_prediction
from jaxrec.evaluation.networks import GlobalScorer
from jaxrec.stages.export import run_export
from jaxrec.stages.train import load_trained, rank

CASES = {"reference": "float32", "float16": "float16", "int8": "int8"}
TOP = 20


def run_case(case: str, workdir: Path) -> dict:
    """Export, then rank every test prediction on both sides."""
    dataset, precision = load_dataset(workdir / "dataset"), CASES[case]
    trained, options = load_trained(workdir, dataset), ExportOptions(precision=precision, top_k=TOP)
    exported = run_export(dataset, workdir, options, overwrite=True)
    parts = as_encoded(trained.params, trained.model.personal_parts, precision)
    jax = metrics(rank(GlobalScorer(trained.model, parts), dataset, dataset.period("test")))
    began = time.perf_counter()
    places = _places(DeviceModel.load(workdir / "device"), dataset)
    found = {name: float(value.mean()) for name, value in per_prediction(places, (TOP,)).items() if name.endswith(str(TOP))}
    row = {"case": case, "precision": precision, "bytes": exported["model_bytes"], "predictions": len(places)}
    row |= {f"device_{name}": value for name, value in found.items()} | {f"jax_{name}": jax[name] for name in found}
    return row | {"seconds": time.perf_counter() - began}


def _places(device: DeviceModel, dataset: Dataset) -> np.ndarray:
    """Rank of every test prediction's target in what the device recommends, [predictions]; beyond the list infinite."""
    found = []
    for session in dataset.period("test"):
        items = np.asarray(dataset.items[dataset.offsets[session] : dataset.offsets[session + 1]])
        for step in range(1, len(items)):
            (place,) = np.nonzero(device.recommend_all(items[:step]).items == items[step])
            found.append(place[0] + 1 if len(place) else np.inf)
    return np.array(found)


def _train(data: Path, workdir: Path) -> None:
    log = [f"--input={data}/rsc15_100k/train.tsv", f"--test_input={data}/rsc15_100k/test.tsv"]
    dataset = f"--dataset={workdir}/dataset"
    for command in (["prepare", *log], ["train", f"--flagfile={CONFIGS / 'gru4rec_rsc15.flags'}", f"--workdir={workdir}"]):
        subprocess.run([sys.executable, "-m", f"launch.{command[0]}", *command[1:], dataset], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    flags = parser(__doc__, CASES)
    flags.add_argument("--data", type=Path, help="folder of the published logs")
    flags.add_argument("--workdir", type=Path, help="folder of a run that is trained, with its dataset; its export is replaced")
    given = flags.parse_args()
    if (given.data is None) == (given.workdir is None):
        flags.error("--data, --workdir: expected one of them")
    with tempfile.TemporaryDirectory() as folder:
        workdir = given.workdir or Path(folder)
        if given.workdir is None:
            _train(given.data, workdir)
        cases = [given.case] if given.case else list(CASES)[:1] if given.quick else list(CASES)
        record(given, "device_accuracy", [run_case(case, workdir) for case in cases])


if __name__ == "__main__":
    main()
