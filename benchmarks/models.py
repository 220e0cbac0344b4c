"""Every model on the same predictions of published logs, with intervals; nothing is chosen by the test period.

    python -m benchmarks.models --data=FOLDER                             # all logs; FOLDER holds them
    python -m benchmarks.models --data=FOLDER --case=reference --quick    # the reference, one epoch of training

`reference`: rsc15_100k; `diginetica`: its newest quarter; `taobao`: taobao categories, with what devices ship (`personal`). Networks are
trained without a preset. A row for each model: Recall@20 and MRR@20 over the whole test and their 95 % intervals (bootstrap over users, or
sessions where no user is known).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.accuracy import DIGINETICA, RSC15, TAOBAO
from benchmarks.recording import parser, record
from jaxrec.baselines.registry import BASELINES

CASES = {
    "reference": ("rsc15_100k", RSC15, ("global",)),
    "diginetica": ("diginetica_quarter", DIGINETICA[:2], ("global",)),
    "taobao": ("taobao categories", TAOBAO, ("global", "personal")),
}
METRICS = ("recall@20", "mrr@20")


def run_case(case: str, data: Path, quick: bool) -> list[dict]:
    """Prepare, train, personalise where users are known, evaluate; a row of the results for each model."""
    log, arguments, networks = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        place = [f"--dataset={folder}/dataset", f"--workdir={folder}"]
        _launch("prepare", *(argument.format(data=data) for argument in arguments), place[0])
        _launch("train", *place, *(["--epochs=1"] if quick else []))
        if "personal" in networks:
            _launch("personalize", *place)
        _launch("evaluate", *place, f"--model={','.join([*networks, *BASELINES])}")
        found = json.loads((Path(folder) / "evaluation/metrics.json").read_text(encoding="utf-8"))
    return [_row(case, log, name, found[name]) for name in (*networks, *BASELINES)]


def _launch(command: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", f"launch.{command}", *arguments], check=True, stdout=subprocess.DEVNULL)


def _row(case: str, log: str, model: str, found: dict) -> dict:
    limits = {f"{name}_{side}": value for name in METRICS for side, value in zip(("low", "high"), found["ci95"][name], strict=True)}
    figures = {name: found[name] for name in (*METRICS, "predictions")}
    return {"case": case, "data": log, "model": model, **figures, **limits}


def main() -> None:
    flags = parser(__doc__, CASES)
    flags.add_argument("--data", type=Path, required=True, help="folder of the published logs")
    given = flags.parse_args()
    cases = [given.case] if given.case else list(CASES)
    record(given, "models", [row for case in cases for row in run_case(case, given.data, given.quick)])


if __name__ == "__main__":
    main()
