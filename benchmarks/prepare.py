"""Seconds and memory of preparing logs of published size, beside a plain pandas script that makes the same sessions.

    python -m benchmarks.prepare                           # every case; logs of 6 GB are written to a temporary folder first
    python -m benchmarks.prepare --case=reference --quick  # a log of a hundredth of the size, in seconds

Writes benchmarks/results/prepare-DEVICE.json; a quick run only prints, unless --out names a file. Each case runs in a process of its own:
stage "all" is the whole process with its imports, checksums and flushing to disk, the other stages are parts of it. `limited` makes the
reference again in 3 GB and fails unless every file has the same bytes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.logs import write_rsc15, write_userbehavior
from benchmarks.recording import parser, record

TAOBAO, YOOCHOOSE = 100_150_807, 33_003_944  # rows as published
CASES = {
    "reference": ("userbehavior", TAOBAO),
    "limited": ("userbehavior", TAOBAO),
    "rsc15": ("rsc15", YOOCHOOSE),
    "ten_million": ("userbehavior", 10_000_000),
    "one_million": ("userbehavior", 1_000_000),
}
WRITERS: dict[str, Callable] = {"userbehavior": write_userbehavior, "rsc15": write_rsc15}
QUICK = 100  # a quick run has one row in so many
LIMIT_GB = 3

OURS = """
import json, sys
from pathlib import Path
from jaxrec.data.reading.formats import ReadOptions
from jaxrec.data.prepare import PrepareOptions, prepare
manifest = prepare([Path(sys.argv[1])], [], ReadOptions(), PrepareOptions(**json.loads(sys.argv[3])), Path(sys.argv[2]))
print(json.dumps({"stages": manifest["stage_seconds"], "seconds": manifest["seconds"], "checksums": manifest["checksums"]}))
"""

# Sessions by a gap of 30 minutes, those of one event dropped, items and users numbered, time cut at .85; no account, no checks.
PANDAS = """
import sys
from pathlib import Path
import numpy as np, pandas as pd
path, folder, format = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
folder.mkdir()
if format == "userbehavior":
    log = pd.read_csv(path, names=["user", "item", "category", "behavior", "time"], usecols=["user", "item", "time"])
    log = log.sort_values(["user", "time"], kind="stable")
    new = (log["user"] != log["user"].shift()) | (log["time"].diff() > 1800)
    log["session"] = new.cumsum()
else:
    log = pd.read_csv(path, names=["session", "time", "item", "category"], usecols=["session", "time", "item"])
    log["time"] = pd.to_datetime(log["time"], format="ISO8601").astype("int64")
    log = log.sort_values(["session", "time"], kind="stable")
log = log[log.groupby("session")["item"].transform("size") >= 2]
start = log.groupby("session")["time"].transform("min")
train = start < log["time"].quantile(0.85)
codes, names = pd.factorize(log.loc[train, "item"])
log = log.assign(start=start, item=pd.Index(names).get_indexer(log["item"]))
log = log[log["item"] >= 0].sort_values(["start", "session"], kind="stable")
np.save(folder / "items.npy", log["item"].to_numpy(np.int32))
np.save(folder / "times.npy", log["time"].to_numpy())
np.save(folder / "sessions.npy", log["session"].to_numpy())
"""


def run(code: str, *arguments: object) -> tuple[float, float, str, list[tuple[float, float]]]:
    """(seconds, peak GB, output, samples of (time, GB in use)) of a Python process; peak 0 and a note where it was killed for memory."""
    with tempfile.TemporaryFile("w+") as output:
        began = time.time()
        process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=output)
        samples = []
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            samples.append((time.time() - began, _resident_gb(process.pid)))
            time.sleep(0.05)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.time() - began
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode} after {seconds:.0f} s and {usage.ru_maxrss / 1e6:.1f} GB")
    return seconds, usage.ru_maxrss / 1e6, text, samples


def _resident_gb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (OSError, IndexError):
        return 0.0


def run_case(case: str, folder: Path, rows: int, log: Path) -> tuple[list[dict], dict]:
    """Rows of the results for one case, and the checksums of what it made."""
    format, _ = CASES[case]
    options = {"memory_limit_gb": LIMIT_GB} if case == "limited" else {}
    seconds, peak, text, samples = run(OURS, log, folder / f"{case}-set", json.dumps(options))
    found = json.loads(text.splitlines()[-1])
    shared = {"case": case, "format": format, "rows": rows}
    table = [{**shared, "stage": "all", "seconds": seconds, "peak_rss_gb": peak}]
    ends = seconds - found["seconds"]  # the imports before, and what comes after the stages, belong to the whole only
    for stage, length in found["stages"].items():
        within = [gb for at, gb in samples if ends <= at <= ends + length]
        table.append({**shared, "stage": stage, "seconds": length, "peak_rss_gb": max(within, default=peak)})
        ends += length
    return table, found["checksums"]


def run_peer(case: str, folder: Path, rows: int, log: Path) -> dict:
    """A row of the results for the plain pandas script."""
    format, _ = CASES[case]
    shared = {"case": case, "format": format, "rows": rows, "stage": "all", "peer": "pandas"}
    try:
        seconds, peak, _, _ = run(PANDAS, log, folder / f"{case}-pandas", format)
    except RuntimeError as error:
        return {**shared, "note": str(error)}
    return {**shared, "seconds": seconds, "peak_rss_gb": peak}


def main() -> None:
    given = parser(__doc__, CASES).parse_args()
    table, made, logs = [], {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in [given.case] if given.case else CASES:
            format, rows = CASES[case]
            rows = rows // QUICK if given.quick else rows
            if (format, rows) not in logs:
                logs[format, rows] = folder / f"{format}-{rows}.csv"
                WRITERS[format](logs[format, rows], rows)
            found, made[case] = run_case(case, folder, rows, logs[format, rows])
            table += found if case == "limited" else [*found, run_peer(case, folder, rows, logs[format, rows])]
        if {"reference", "limited"} <= made.keys() and made["reference"] != made["limited"]:
            raise SystemExit(f"expected the same bytes within {LIMIT_GB} GB; they differ")
    record(given, "prepare", table)


if __name__ == "__main__":
    main()
