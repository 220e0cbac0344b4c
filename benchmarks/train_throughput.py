"""Updates and events per second of global training, everything included: dropout, momentum, drawing negatives.

    python -m benchmarks.train_throughput                            # all cases
    python -m benchmarks.train_throughput --case=reference --quick   # the reference, in about a minute
    python -m benchmarks.train_throughput --case=reference --peer_program=sparse_rows.py

Indices are synthetic, at the item counts, units, lanes and options of the published GRU4Rec parameter files. A peer program is run in turn
with ours, as PROGRAM ITEMS UNITS LANES NEGATIVES STEPS, and must print lines with "N events/s".
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.recording import matmul_gflops, parser, record
from jaxrec.learning.train import LossOptions, OptimizerOptions, Recipe, RunOptions, Sessions, fit
from jaxrec.models.recommender import Model, ModelOptions

CASES = {
    "reference": {"items": 2_933, "units": 100, "lanes": 32, "dropout_p_hidden": 0.4, "learning_rate": 0.2, "momentum": 0.2},
    "units512": {
        "items": 33_646,
        "units": 512,
        "lanes": 128,
        "dropout_p_embed": 0.5,
        "dropout_p_hidden": 0.3,
        "learning_rate": 0.05,
        "momentum": 0.15,
    },
    "items4m": {"items": 4_000_000, "units": 100, "lanes": 32, "dropout_p_hidden": 0.4, "learning_rate": 0.2, "momentum": 0.2},
}
N_SAMPLE = 2048
SESSION = 5


def run_case(case: str, updates: int) -> dict:
    """Train on sessions of random items; a row of the results."""
    shape = {"dropout_p_embed": 0.0} | CASES[case]
    model = Model(ModelOptions(units=(shape["units"],), embedding_dim=shape["units"], dense=False), shape["items"])
    run = RunOptions(
        lanes=shape["lanes"],
        dropout_p_embed=shape["dropout_p_embed"],
        dropout_p_hidden=shape["dropout_p_hidden"],
        report_updates=updates // 4,
    )
    recipe = Recipe(LossOptions(n_sample=N_SAMPLE), OptimizerOptions(learning_rate=shape["learning_rate"], momentum=shape["momentum"]), run)
    sessions = updates * shape["lanes"] // (SESSION - 1)
    items = np.random.default_rng(0).integers(0, shape["items"], sessions * SESSION).astype(np.int32)
    counts = np.bincount(items, minlength=shape["items"]) + 1
    with tempfile.TemporaryDirectory() as folder:
        data = Sessions(items, np.arange(sessions + 1) * SESSION, counts)
        found = fit(model, recipe, data, Path(folder), epochs=2, name=case)
    rate = found.updates / found.seconds
    return {
        "case": case,
        "items": shape["items"],
        "units": shape["units"],
        "lanes": shape["lanes"],
        "n_sample": N_SAMPLE,
        "updates_per_s": rate,
        "events_per_s": found.events / found.seconds,
        "gflops": rate * _operations(shape) / 1e9,
        "matmul_gflops": matmul_gflops(),
    }


def _operations(shape: dict) -> int:
    """Floating-point operations of the matrix products of an update: forward, and twice that backward."""
    lanes, units = shape["lanes"], shape["units"]
    return 3 * 2 * lanes * units * (6 * units + lanes + N_SAMPLE)


def run_peer(program: str, case: str, updates: int) -> dict:
    """The same shapes by another program."""
    shape = CASES[case]
    sizes = [shape["items"], shape["units"], shape["lanes"], N_SAMPLE, updates]
    output = subprocess.run([sys.executable, program, *map(str, sizes)], capture_output=True, text=True, check=True).stdout
    rates = [float(rate.replace(",", "")) for rate in re.findall(r"([\d,.]+) events/s", output)][1:]
    events = float(np.median(rates))
    row = {"case": case, "peer": Path(program).name, "items": shape["items"], "units": shape["units"], "lanes": shape["lanes"]}
    return row | {"n_sample": N_SAMPLE, "updates_per_s": events / shape["lanes"], "events_per_s": events}


def main() -> None:
    flags = parser(__doc__, CASES)
    flags.add_argument("--peer_program", help="a program to compare with")
    given = flags.parse_args()
    updates, rows = 500 if given.quick else 2000, []
    for case in [given.case] if given.case else CASES:
        for _ in range(1 if given.quick or case != "reference" else 5):
            rows.append(run_case(case, updates))
            if given.peer_program and case == "reference":
                rows.append(run_peer(given.peer_program, case, 500))
    record(given, "train_throughput", rows)


if __name__ == "__main__":
    main()
