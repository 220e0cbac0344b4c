"""Recall@20 and MRR@20 on published logs, by preset and seed; nothing is chosen by the test period.

    python -m benchmarks.accuracy --data=FOLDER                            # all cases
    python -m benchmarks.accuracy --data=FOLDER --case=reference --quick   # one seed of the reference

`reference`: rsc15_100k with GRU4Rec's own cross-entropy parameters; `rsc15_bpr_max`: with its bpr-max ones for RetailRocket, as the
official implementation was run; `diginetica_...`: the newest quarter of Diginetica, 5 epochs, the same way. `..._default`: a log without a
preset; `..._own`: with our own, as many epochs as validation says. `taobao_default`: taobao categories; its recall@20 is that of the global
model, after_recall@20 that of what devices would ship; more rows tell what was predicted after so many updates, devices fine-tuning again
after every 50 events of the test. `shop_default`: simulated shops; recovered is what share of the gain that clicks allow is shipped.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.presets import CONFIGS, DIGINETICA_XE
from benchmarks.recording import parser, record

RSC15 = ("--input={data}/rsc15_100k/train.tsv", "--test_input={data}/rsc15_100k/test.tsv")
TAOBAO = (
    "--input={data}/taobao/UserBehavior.csv",
    "--item_field=category",
    "--personal_from=2017-12-01T00:00+08:00",
    "--test_from=2017-12-02T00:00+08:00",
)
DIGINETICA = ("--input={data}/diginetica_quarter/train.tsv", "--test_input={data}/diginetica_quarter/test.tsv", "--epochs=5")


def preset(name: str) -> str:
    return f"--flagfile={CONFIGS / name}.flags"


CASES = {
    "reference": ("rsc15_100k", "gru4rec_rsc15", (preset("gru4rec_rsc15"), *RSC15)),
    "rsc15_bpr_max": ("rsc15_100k", "gru4rec_retailrocket", (preset("gru4rec_retailrocket"), *RSC15)),
    "rsc15_default": ("rsc15_100k", "none", RSC15),
    "rsc15_own": ("rsc15_100k", "jaxrec_rsc15", (preset("jaxrec_rsc15"), *RSC15)),
    "diginetica_bpr_max": ("diginetica_quarter", "gru4rec_diginetica", (preset("gru4rec_diginetica"), *DIGINETICA)),
    "diginetica_xe": ("diginetica_quarter", "GRU4Rec, cross-entropy", (*DIGINETICA_XE, *DIGINETICA)),
    "diginetica_default": ("diginetica_quarter", "none", DIGINETICA[:2]),
    "diginetica_own": ("diginetica_quarter", "jaxrec_diginetica", (preset("jaxrec_diginetica"), *DIGINETICA[:2])),
    "taobao_default": ("taobao categories", "none", (*TAOBAO, "--update_every=50")),
    "shop_default": ("simulated shop", "none", ("--shop_seed={seed}",)),
}


def run_case(case: str, data: Path, seed: int) -> list[dict]:
    """The whole experiment; rows of the results."""
    log, preset_name, arguments = CASES[case]
    with tempfile.TemporaryDirectory() as workdir:
        given = [argument.format(data=data, seed=seed) for argument in arguments]
        command = [sys.executable, "-m", "launch.experiment", *given, f"--workdir={workdir}", f"--seed={seed}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        report = json.loads((Path(workdir) / "report.json").read_text(encoding="utf-8"))
    found, personal = report["global"], report["personal"]
    run = {"case": case, "data": log, "preset": preset_name, "seed": seed}
    figures = {name: found[name] for name in ("recall@20", "mrr@20", "predictions", "train_events_per_s")}
    if personal is None:
        return [run | figures]
    return [run | figures | _personal(personal), *(run | _updated(one) for one in personal.get("cadence", ()))]


def _personal(personal: dict) -> dict:
    baseline = personal["baselines"]["markov_user_history"]
    named = {"fine_tuned": personal["fine_tuned"], "after": personal["after"], "markov_user_history": baseline}
    recovered = {"recovered": personal["attainable"]["recovered"]} if "attainable" in personal else {}
    return _columns(named) | {"users_worse": personal["users_worse"], "users_per_s": personal["users_per_s"]} | recovered


def _updated(one: dict) -> dict:
    rankers = ("before", "fixed", "updated", "fixed_with_history", "updated_with_history")
    return {"updates": one["updates"], "predictions": one["predictions"]} | _columns({name: one[name] for name in rankers})


def _columns(rankers: dict[str, dict]) -> dict:
    return {f"{name}_{metric}": values[metric] for name, values in rankers.items() for metric in ("recall@20", "mrr@20")}


def main() -> None:
    flags = parser(__doc__, CASES)
    flags.add_argument("--data", type=Path, required=True, help="folder of the published logs")
    given = flags.parse_args()
    seeds = (0,) if given.quick else (0, 1, 2)
    cases = [given.case] if given.case else CASES
    record(given, "accuracy", [row for case in cases for seed in seeds for row in run_case(case, given.data, seed)])


if __name__ == "__main__":
    main()
