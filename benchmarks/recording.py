"""What all benchmarks share: their flags, the table they print, the file they write, the machine's matrix-product rate."""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.errors import InputError
from jaxrec.files import read_json, write_json
from jaxrec.report.environment import environment
from jaxrec.report.tables import table

RESULTS = Path(__file__).parent / "results"


def parser(doc: str, cases: Sequence[str]) -> argparse.ArgumentParser:
    """Flags of a benchmark: --case, --quick, --device, --out."""
    found = argparse.ArgumentParser(description=doc.splitlines()[0])
    found.add_argument("--case", choices=tuple(cases), help="only this case")
    found.add_argument("--quick", action="store_true", help="a short form that only prints")
    found.add_argument("--device", default=_device(), help="name of this machine in the file of results")
    found.add_argument(
        "--out", type=Path, help="file of results, of which --case replaces its own; by default the recorded one, none for a quick run"
    )
    return found


def _device() -> str:
    if jax.default_backend() == "cpu":
        return f"cpu{os.cpu_count()}"
    return jax.devices()[0].device_kind.split()[1].lower() if " " in jax.devices()[0].device_kind else jax.default_backend()


def record(given: argparse.Namespace, name: str, rows: list[dict]) -> None:
    """Print the rows as a table and write them, unless the run is a quick one without --out; rows of cases not measured now stay.

    Raises:
      InputError: the rows that are to stay were measured elsewhere or with other versions.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    print(table(columns, [[_text(row.get(column)) for column in columns] for row in rows]))
    out = given.out or (None if given.quick else RESULTS / f"{name}-{given.device}.json")
    if out is not None:
        write_json(out, {"environment": environment(), "rows": [*(_of_other_cases(out, rows) if given.case else ()), *rows]})
        print(f"written: {out}")


def _of_other_cases(path: Path, rows: list[dict]) -> list[dict]:
    if not path.exists():
        return []
    found, cases = read_json(path, "results of a benchmark"), {row["case"] for row in rows}
    if found["environment"] != environment():
        raise InputError(f"{path}: expected results of this machine and these versions beside --case; measure all cases, or give --out")
    return [row for row in found["rows"] if row["case"] not in cases]


def _text(value: object) -> str:
    if value is None:
        return ""
    return (
        f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}" if isinstance(value, float) else str(value)
    )


def median_seconds(work: Callable[[], object], runs: int) -> float:
    """Median time of `work` over some runs, after one that is not counted."""
    jax.block_until_ready(work())
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        jax.block_until_ready(work())
        found.append(time.perf_counter() - began)
    return float(np.median(found))


def matmul_gflops(size: int = 1024, repeats: int = 8) -> float:
    """Rate of a large float32 matrix product on this machine, at the default precision, in GFLOP/s."""
    a = jnp.ones((size, size)) * 0.01

    @jax.jit
    def product(a):
        return jax.lax.fori_loop(0, repeats, lambda _, b: a @ b, a)

    return 2 * size**3 * repeats / median_seconds(lambda: product(a), 5) / 1e9
