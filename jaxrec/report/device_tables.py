"""Tables of measured devices: what a model is and costs, its signatures, and what others published."""

from collections.abc import Callable
from typing import Any

from jaxrec.report.tables import MISSING, Table, count, share, significant, size


def _ms(value: float | None) -> str:
    return MISSING if value is None else f"{significant(value)} ms"


def _mb(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.1f} MB"


# (row, its figure from what was measured, how it is shown)
ROWS: tuple[tuple[str, str | Callable[[dict], Any], Callable[[Any], str]], ...] = (
    ("precision of item rows", "precision", lambda value: value or MISSING),
    ("items", "items", count),
    ("units", "units", lambda value: ", ".join(map(str, value)) if value else MISSING),
    ("model file", "model_bytes", size),
    ("personal parameters of a user", "personal_bytes", size),
    ("personal parameters and optimizer's state", "personal_state_bytes", size),
    ("candidates in one call", "candidates", count),
    ("candidates with their item rows", "candidates_bytes", size),
    ("user vector", "user_vector_bytes", size),
    ("recommend, median", "recommend_p50_ms", _ms),
    ("recommend, 95th percentile", "recommend_p95_ms", _ms),
    ("recommend, median of the whole Python call", "recommend_call_p50_ms", _ms),
    ("one click, median", "step_p50_ms", _ms),
    ("one training update, median", "train_p50_ms", _ms),
    ("interactions in one update, at most", lambda device: interactions(device), count),
    ("processor time of one update", "train_cpu_ms", _ms),
    ("processor use during updates, of one core", "train_cpu_share", share),
    ("load", "load_ms", _ms),
    ("peak memory", "peak_rss_mb", _mb),
    ("threads", "threads", count),
    ("largest error of recommend against JAX", "recommend_max_abs_error", significant),
    ("largest error of train against JAX", "train_max_abs_error", significant),
)
TIMES = (
    *(("p50 ms", "p50_ms", significant), ("p95 ms", "p95_ms", significant), ("p99 ms", "p99_ms", significant)),
    *(("whole call, p50 ms", "call_p50_ms", significant), ("first call, ms", "first_ms", significant)),
    *(("warm-up, mean ms", "warm_up_ms", significant), ("processor ms", "cpu_ms", significant), ("of one core", "cpu_share", share)),
)
BRIEF = 2
"""Columns of each of several devices."""
MOST = 4
"""Kinds of operations that a table names."""
PUBLISHED_HEADER = ("", "one update", "interactions in it", "one recommendation", "processor", "memory", "model file", "where")
PUBLISHED = (
    (
        *("cloud-client convergence, published", "53,000 ms", "50", MISSING, "62 %", "1,030.6 MB", MISSING),
        "TensorFlow.js in Chrome on a laptop; not measured here",
    ),
    (
        *("TensorFlow's starter model, published", MISSING, MISSING, "0.05 to 0.09 ms", MISSING, MISSING, "520 kB"),
        "Pixel 4 and Pixel 3, 4 threads, benchmark_model; not measured here",
    ),
)
"""Journal of Computer Applications 2022; TensorFlow's recommendation models for devices."""


def overview(device: dict[str, Any]) -> Table:
    """What a model is and costs with the first number of threads; a row of figures that are not there is left out."""
    found = [(row, show(key(device) if callable(key) else device.get(key))) for row, key, show in ROWS]
    return Table(("", ""), [row for row in found if row[1] != MISSING])


def timings(device: dict[str, Any], brief: bool = False) -> Table | None:
    """Times of every signature with every number of threads, `brief` where several devices stand side by side; None if not measured."""
    columns = TIMES[:BRIEF] if brief else TIMES
    rows = [
        (f"{name}, {threads}", *(show(found.get(f"{name}_{key}")) for _, key, show in columns))
        for name in device.get("workload", {})
        for threads, found in device.get("by_threads", {}).items()
    ]
    return Table(("signature, threads", *(column for column, _, _ in columns)), rows) if rows else None


def operations(device: dict[str, Any], brief: bool = False) -> Table | None:
    """What one call of each signature computes; see `timings`."""
    columns = ("operations", "multiply-adds", "most frequent")[: BRIEF if brief else None]
    rows = [(name, *_computed(one)[: len(columns)]) for name, one in device.get("workload", {}).items()]
    return Table(("signature", *columns), rows) if rows else None


def beside_published(devices: dict[str, dict[str, Any]]) -> Table:
    """One line for each device and for each system that others measured elsewhere."""
    return Table(PUBLISHED_HEADER, [*(_measured(name, one) for name, one in devices.items()), *PUBLISHED])


def interactions(device: dict[str, Any]) -> int | None:
    """Predictions that one training update learns from when its block is full."""
    return device["train_rows"] * device["train_steps"] if "train_rows" in device else None


def _measured(name: str, device: dict[str, Any]) -> tuple[str, ...]:
    update = (_ms(device.get("train_p50_ms")), count(interactions(device)))
    costs = (share(device.get("train_cpu_share")), _mb(device.get("peak_rss_mb")), size(device.get("model_bytes")))
    return name, *update, _ms(device.get("recommend_p50_ms")), *costs, "measured here; processor of one core, memory beyond a bare process"


def _computed(work: dict[str, Any]) -> tuple[str, ...]:
    frequent = ", ".join(f"{name} {number}" for name, number in list(work["operations"].items())[:MOST])
    return count(sum(work["operations"].values())), count(work["multiply_adds"]), frequent
