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

from jaxrec.device.runtime import DeviceModel
from jaxrec.device.state import MANIFEST
from jaxrec.errors import InputError
from jaxrec.files import read_json
from jaxrec.options import Options, option

WARM_UP = 20
"""Calls of each signature before its steady times are taken."""
EXPORTED = ("model_bytes", "precision", "sha256", "recommend_max_abs_error", "train_max_abs_error", "export_seconds")
"""What the manifest adds to the figures."""
BARE = "import numpy, ai_edge_litert.interpreter; print(open('/proc/self/status').read())"


@dataclasses.dataclass(frozen=True)
class MeasureOptions(Options):
    """How the device's runtime is measured."""

    measure_calls: int = option(500, "calls of each signature that are timed", minimum=1)
    measure_threads: int = option(1, "threads of the device's runtime", minimum=1)


def measure(folder: Path, options: MeasureOptions) -> dict[str, Any]:
    """Figures of the model in an exported folder.

    Returns:
      for each signature NAME its NAME_p50_ms and NAME_p95_ms (the invocation with inputs set), NAME_call_p50_ms (the whole Python call,
      inputs and outputs copied) and NAME_first_ms (first call); load_ms; peak_rss_mb, the peak of the process after using every signature
      less the peak of one that only imported NumPy and the interpreter, None where the system does not tell; the manifest's own figures.

    Raises:
      InputError: the folder is not what was exported, or the measuring process failed; quotes its last line.
    """
    manifest = read_json(folder / MANIFEST, "device manifest")
    command = ["-m", "jaxrec.device.measure", str(folder), f"--calls={options.measure_calls}", f"--threads={options.measure_threads}"]
    figures = json.loads(_python(command).splitlines()[-1])
    peak = figures.pop("peak_rss_mb")
    bare = None if peak is None else peak_mb(_python(["-c", BARE]))
    weight = None if bare is None else peak - bare
    return {key: manifest[key] for key in EXPORTED} | figures | {"peak_rss_mb": weight, "threads": options.measure_threads}


def _python(arguments: list[str]) -> str:
    """Output of a fresh Python that finds this package wherever it was imported from."""
    package = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    done = subprocess.run([sys.executable, *arguments], env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
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
    """Load and time every signature in this process; see `measure`."""
    load_ms, device = _milliseconds(lambda: DeviceModel.load(folder, threads))
    found = {"load_ms": load_ms}
    for name, runner in device.runners.items():
        feed = example(device, name, np.random.default_rng(0))
        found |= {f"{name}_{key}": value for key, value in _timed(runner, feed, calls).items()}
    return {**found, "peak_rss_mb": _own_peak_mb()}


def example(device: DeviceModel, signature: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Inputs of a busy device: everything full, random items."""
    n_items = device.manifest["items"]
    feed = {name: np.ones(of["shape"], of["dtype"]) for name, of in device.manifest["signatures"][signature]["inputs"].items()}
    for name in feed.keys() & {"context", "candidates", "items", "item", "negatives"}:
        feed[name] = np.asarray(rng.integers(0, n_items, feed[name].shape, dtype=np.int32))
    known = {**device.state, **device.hidden}
    if "context" in feed:
        known["length"] = np.int32(len(feed["context"]))
    if "learning_rate" in feed:
        known["learning_rate"] = np.float32(0.01)
    return feed | {name: value for name, value in known.items() if name in feed}


def _timed(runner: Any, feed: dict[str, np.ndarray], calls: int) -> dict[str, float]:
    first, _ = _milliseconds(lambda: runner(**feed))
    for _ in range(WARM_UP):
        runner(**feed)
    whole = [_milliseconds(lambda: runner(**feed))[0] for _ in range(calls)]
    # The runner offers only the whole call; what it invokes after it has set the inputs is this.
    invoke, subgraph = runner._interpreter_wrapper.Invoke, runner._subgraph_index
    alone = [_milliseconds(lambda: invoke(subgraph))[0] for _ in range(calls)]
    p50, p95 = np.percentile(alone, [50, 95])
    return {"p50_ms": float(p50), "p95_ms": float(p95), "call_p50_ms": float(np.median(whole)), "first_ms": first}


def _milliseconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return (time.perf_counter() - began) * 1e3, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calls", type=int, default=MeasureOptions.measure_calls)
    parser.add_argument("--threads", type=int, default=MeasureOptions.measure_threads)
    given = parser.parse_args()
    print(json.dumps(figures(given.folder, given.calls, given.threads)))


if __name__ == "__main__":
    main()
