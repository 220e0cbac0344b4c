"""Latency and memory of an exported model, in a fresh process that imports only what a device has.

    python -m jaxrec.device.measure FOLDER --calls=500 --threads=1

prints the figures as JSON; `measure` runs exactly that and adds what the process weighs beyond a bare one.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec.device.operations import workload
from jaxrec.device.runtime import DeviceModel
from jaxrec.device.sizes import sizes
from jaxrec.device.state import MANIFEST, MODEL
from jaxrec.errors import InputError
from jaxrec.files import read_json
from jaxrec.options import Options, option

WARM_UP = 20
"""Calls of each signature between its first one and those whose times count as steady."""
EXPORTED = ("model_bytes", "precision", "sha256", "export_seconds")
"""What the manifest adds to the figures, beside every largest error."""
BARE = "import numpy, ai_edge_litert.interpreter; print(open('/proc/self/status').read())"


@dataclasses.dataclass(frozen=True)
class MeasureOptions(Options):
    """How the device's runtime is measured."""

    measure_calls: int = option(500, "calls of each signature that are timed", minimum=1)
    measure_threads: tuple[int, ...] = option(
        (1, 2, 4), "numbers of threads of the device's runtime, each measured by itself; the first gives the report's figures", minimum=1
    )

    def __post_init__(self):
        super().__post_init__()
        if not self.measure_threads:
            raise InputError("--measure_threads: expected at least one number of threads; got none")


def measure(folder: Path, options: MeasureOptions) -> dict[str, Any]:
    """Figures of the model in an exported folder.

    Returns:
      `figures` with the first number of threads, and `by_threads`: those with every number of threads, by that number as text;
      `peak_rss_mb` in each is the peak of the process after using every signature less the peak of one that only imported NumPy and the
      interpreter, None where the system does not tell; workload: see `jaxrec.device.operations`; the keys of `jaxrec.device.sizes`;
      the manifest's own figures.

    Raises:
      InputError: the folder is not what was exported, or a measuring process failed; quotes its last line.
    """
    manifest = read_json(folder / MANIFEST, "device manifest")
    by_threads = {str(threads): _fresh(folder, options.measure_calls, threads) for threads in options.measure_threads}
    first, *_ = by_threads.values()
    return {
        **{key: value for key, value in manifest.items() if key in EXPORTED or key.endswith("_max_abs_error")},
        **sizes(manifest),
        **first,
        "threads": options.measure_threads[0],
        "by_threads": by_threads,
        "workload": workload((folder / MODEL).read_bytes()),
    }


def _fresh(folder: Path, calls: int, threads: int) -> dict[str, Any]:
    """`figures` of a process of its own, its memory less that of a bare one."""
    found = json.loads(_python(["-m", "jaxrec.device.measure", str(folder), f"--calls={calls}", f"--threads={threads}"]).splitlines()[-1])
    if found["peak_rss_mb"] is not None:
        found["peak_rss_mb"] -= peak_mb(_python(["-c", BARE]))
    return found


def _python(arguments: list[str]) -> str:
    """Output of a fresh Python that finds this package wherever it was imported from."""
    package = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    # NumPy's own threads spin for some milliseconds after its import, which would count as processor time of the first signature.
    environment = os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise InputError(f"measure: the process on the device's runtime failed: {last[0]}")
    return done.stdout


def peak_mb(status: str) -> float:
    """Peak resident memory from the text of /proc/self/status, in MB (10^6 bytes).

    A child inherits getrusage's peak from the process that started it, however large; VmHWM starts anew with the program.

    >>> peak_mb("Name: python\\nVmHWM:\\t   2000 kB\\n")
    2.048
    """
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def _own_peak_mb() -> float | None:
    status = Path("/proc/self/status")
    return peak_mb(status.read_text()) if status.exists() else None


def figures(folder: Path, calls: int, threads: int) -> dict[str, Any]:
    """Load and time every signature in this process.

    Returns:
      load_ms; peak_rss_mb of this process; for each signature NAME its NAME_first_ms (first call), NAME_warm_up_ms (mean of the calls after
      it), NAME_p50_ms, NAME_p95_ms, NAME_p99_ms and NAME_mean_ms (steady, the invocation with inputs set), NAME_call_p50_ms (the whole
      Python call, inputs and outputs copied), NAME_cpu_ms and NAME_cpu_share (processor time of such a call, all threads together, in
      milliseconds and as a share of one core: less than 1 with one thread means that other programs held the processor).
    """
    load_ms, device = _milliseconds(lambda: DeviceModel.load(folder, threads))
    found = {"load_ms": load_ms}
    for name, runner in device.runners.items():
        feed = example(device, name, np.random.default_rng(0))
        found |= {f"{name}_{key}": value for key, value in _timed(runner, feed, calls).items()}
    return {**found, "peak_rss_mb": _own_peak_mb()}


def example(device: DeviceModel, signature: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Inputs of a busy device: everything full, random items, the user's own parameters; ones where nothing else is known."""
    wanted = device.manifest["signatures"][signature]["inputs"]

    def items(shape: tuple[int, ...]) -> np.ndarray:
        return rng.integers(0, device.manifest["items"], shape)

    made = {
        **dict.fromkeys(("context", "candidates", "items", "item", "negatives"), items),
        "own.items": lambda shape: np.sort(items(shape)),
        "length": lambda _: wanted["context"]["shape"][0],
        "learning_rate": lambda _: 0.01,
        **{name: lambda _, value=value: value for name, value in {**device.state, **device.hidden}.items()},
    }
    return {name: np.asarray(made.get(name, np.ones)(tuple(of["shape"])), of["dtype"]) for name, of in wanted.items()}


def _timed(runner: Any, feed: dict[str, np.ndarray], calls: int) -> dict[str, float]:
    def call() -> float:
        return _milliseconds(lambda: runner(**feed))[0]

    first, warm_up = call(), [call() for _ in range(WARM_UP)]
    wall, busy = time.perf_counter(), time.process_time()
    whole = [call() for _ in range(calls)]
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    # The runner offers only the whole call; what it invokes after it has set the inputs is this.
    invoke, subgraph = runner._interpreter_wrapper.Invoke, runner._subgraph_index
    alone = [_milliseconds(lambda: invoke(subgraph))[0] for _ in range(calls)]
    steady = dict(zip(("p50_ms", "p95_ms", "p99_ms"), map(float, np.percentile(alone, [50, 95, 99])), strict=True))
    return {
        **{"first_ms": first, "warm_up_ms": float(np.mean(warm_up)), **steady, "mean_ms": float(np.mean(alone))},
        **{"call_p50_ms": float(np.median(whole)), "cpu_ms": busy * 1e3 / calls, "cpu_share": busy / wall},
    }


def _milliseconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return (time.perf_counter() - began) * 1e3, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calls", type=int, default=MeasureOptions.measure_calls)
    parser.add_argument("--threads", type=int, default=MeasureOptions.measure_threads[0])
    given = parser.parse_args()
    print(json.dumps(figures(given.folder, given.calls, given.threads)))


if __name__ == "__main__":
    main()
