"""Predictions per second of whole-catalogue evaluation, everything included: planning, padding, encoding, scores, ties.

    python -m benchmarks.evaluation --data=FOLDER                       # all cases; FOLDER holds rsc15_100k
    python -m benchmarks.evaluation --data=FOLDER --case=reference --quick
    python -m benchmarks.evaluation --case=items37k                     # synthetic cases need no data

`reference`: the training sessions of rsc15_100k by 100 units; `rsc15_units512`: by 512. `items37k`, `items1m`: sessions of random items, 2
events and more, 4 on average, in so large a catalogue. `..._bfloat16`: with products of bfloat16. Models are as drawn: it costs the same.

Every case runs in a process of its own; `data_gb` is the peak of its memory before evaluation, model included, `peak_rss_gb` after it.
"""

import argparse
import multiprocessing
import resource
import sys
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks.published import published
from benchmarks.recording import matmul_gflops, parser, record
from jaxrec.data.dataset import Dataset
from jaxrec.evaluation.networks import GlobalScorer
from jaxrec.models.recommender import Model, ModelOptions
from jaxrec.stages.precision import at_precision
from jaxrec.stages.train import rank

CASES = {
    "reference": {"units": 100},
    "rsc15_units512": {"units": 512},
    "rsc15_bfloat16": {"units": 100, "scoring": "bfloat16"},
    "items37k": {"units": 100, "items": 37_000, "sessions": 8_000},
    "items37k_bfloat16": {"units": 100, "items": 37_000, "sessions": 8_000, "scoring": "bfloat16"},
    "items1m": {"units": 100, "items": 1_000_000, "sessions": 400},
}
MEAN_LENGTH = 4


def run_case(case: str, data: Path | None, runs: int) -> list[dict]:
    """Evaluate once without a measurement, to compile, then some times; a row of the results each."""
    shape = {"scoring": "float32", **CASES[case]}
    dataset = _sessions(shape["items"], shape["sessions"]) if "items" in shape else published(data / "rsc15_100k")
    model = Model(ModelOptions(units=(shape["units"],), embedding_dim=shape["units"], dense=False), dataset.n_items)
    scorer = GlobalScorer(model, model.init(jax.random.key(0)))
    scorer = at_precision(scorer, "bfloat16") if shape["scoring"] == "bfloat16" else scorer
    row = {"case": case, "items": dataset.n_items, "units": shape["units"], "scoring": shape["scoring"], "data_gb": _peak_gb()}
    rank(scorer, dataset, dataset.period("global"))
    return [row | _measured(scorer, dataset) | {"matmul_gflops": matmul_gflops()} for _ in range(runs)]


def _measured(scorer: GlobalScorer, dataset: Dataset) -> dict:
    began = time.perf_counter()
    predictions = len(rank(scorer, dataset, dataset.period("global")).greater)
    seconds = time.perf_counter() - began
    return {"predictions": predictions, "seconds": seconds, "events_per_s": predictions / seconds, "peak_rss_gb": _peak_gb()}


def _sessions(n_items: int, sessions: int) -> Dataset:
    """Sessions of random items without users, all in the global period; lengths are geometric."""
    generator = np.random.default_rng(0)
    offsets = np.append(0, np.cumsum(1 + generator.geometric(1 / (MEAN_LENGTH - 1), sessions)))
    items = generator.integers(0, n_items, offsets[-1], dtype=np.int32)
    counts, nobody = np.bincount(items, minlength=n_items), np.full(sessions, -1, np.int32)
    return Dataset(items, np.arange(len(items)), offsets, nobody, (0, sessions, sessions, sessions), counts, 0)


def _peak_gb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def _arguments() -> argparse.Namespace:
    flags = parser(__doc__, CASES)
    flags.add_argument("--data", type=Path, help="folder of the published logs; the synthetic cases do without")
    given = flags.parse_args()
    if given.data is None and (given.case is None or "items" not in CASES[given.case]):
        flags.error("--data: expected the folder that holds rsc15_100k; it was not given")
    return given


def main() -> None:
    given = _arguments()
    cases = [given.case] if given.case else list(CASES)
    tasks = [(case, given.data, 1 if given.quick else 5) for case in cases]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        found = pool.starmap(run_case, tasks, chunksize=1)
    record(given, "evaluation", [row for rows in found for row in rows])


if __name__ == "__main__":
    main()
