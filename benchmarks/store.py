"""Seconds, memory and bytes of personalising a whole shop, users streaming through the store.

    python -m benchmarks.store                           # the simulated shop with 1,000, 10,000 and 100,000 users
    python -m benchmarks.store --case=reference --quick  # 1,000 users

Each size runs in a process of its own: `launch.personalize` with one epoch, one learning rate, no hold-out and `--keep=metrics`, so that
what is measured is the streaming and not the disk. `rss_gb_early` and `rss_gb_late` are its resident bytes when a tenth of the chunks and
when all are finished: what they differ by is what users leave behind; `peak_rss_gb` is of the whole command, with the comparison of all
users' ranks. `disk` is the same with the parameters kept, at 1,000 users.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.recording import parser, record
from jaxrec.data.prepare import PrepareOptions, prepare
from jaxrec.data.reading.formats import ReadOptions
from jaxrec.data.shop import ShopOptions, draw, write_log
from jaxrec.data.storage import load_dataset
from jaxrec.files import read_json
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, Recipe, RunOptions
from jaxrec.models.recommender import ModelOptions
from jaxrec.stages.personalize import RESULT, STORE
from jaxrec.stages.train import run_train

CASES = {
    "reference": (1_000, "metrics"),
    "ten_thousand": (10_000, "metrics"),
    "hundred_thousand": (100_000, "metrics"),
    "disk": (1_000, "full"),
}
LIGHT = (
    "--personal_epochs=1",
    "--personal_learning_rates=0.003",
    "--holdout_fraction=0",
    "--personal_n_sample=128",
    "--validation_users=50",
)


def run_case(case: str) -> dict:
    """A row of the results."""
    users, keep = CASES[case]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_log(draw(ShopOptions(shop_users=users, shop_sessions_per_user=10)), folder / "shop.csv")
        prepare([folder / "shop.csv"], [], ReadOptions(), PrepareOptions(), folder / "dataset")
        light = Recipe(LossOptions(n_sample=256), OptimizerOptions(), RunOptions(epochs=1, lanes=256, validation_fraction=0.02))
        run_train(load_dataset(folder / "dataset"), folder, ModelOptions(), light)
        (folder / "shop.csv").unlink()
        seconds, samples, peak = _run(folder, keep)
        found = read_json(folder / RESULT, "result of `personalize`")
        size = sum(path.stat().st_size for path in (folder / STORE).rglob("*") if path.is_file())
    streaming = samples[len(samples) // 10 :]
    return {
        "case": case,
        "users": found["users_in_store"],
        "keep": keep,
        "seconds": seconds,
        "users_per_s": found["users_per_s"],
        "rss_gb_early": streaming[0][1],
        "rss_gb_late": streaming[-1][1],
        "peak_rss_gb": peak,
        "store_bytes_per_user": size / max(found["users_in_store"], 1),
        "padding": found["planning"]["padding"],
        "shapes": found["planning"]["shapes"],
    }


def _run(folder: Path, keep: str) -> tuple[float, list[tuple[int, float]], float]:
    """(seconds of the whole command, (finished chunks, resident GB) each time another chunk is finished, resident GB at most)."""
    command = [
        sys.executable,
        "-m",
        "launch.personalize",
        f"--dataset={folder / 'dataset'}",
        f"--workdir={folder}",
        f"--keep={keep}",
        *LIGHT,
    ]
    began, samples, peak = time.perf_counter(), [], 0.0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        done, (resident, most) = sum(1 for _ in (folder / STORE).glob("chunk-*")), _resident_gb(process.pid)
        peak = max(peak, most)
        if done and (not samples or done > samples[-1][0]):
            samples.append((done, resident))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}: {' '.join(command)}")
    return time.perf_counter() - began, samples, peak


def _resident_gb(pid: int) -> tuple[float, float]:
    """Now and at most so far; zeros of a process that has ended."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    kilobytes = {line.split()[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return kilobytes.get("VmRSS:", 0) / 1e6, kilobytes.get("VmHWM:", 0) / 1e6


def main() -> None:
    given = parser(__doc__, CASES).parse_args()
    record(given, "store", [run_case(case) for case in ([given.case] if given.case else ["reference"] if given.quick else CASES)])


if __name__ == "__main__":
    main()
