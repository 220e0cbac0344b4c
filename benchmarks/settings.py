"""Settings of training, and what validation inside the training period says of each: how the presets of our own were chosen.

    python -m benchmarks.settings --data=FOLDER                    # all logs
    python -m benchmarks.settings --data=FOLDER --case=reference   # one log

The last tenth of the training period validates, with a patience of 2 and 25 epochs at most; the test period is never looked at.
GRU4Rec's own parameters are held to the same rule. Cases `..._default`: a log without a preset, by the epochs and patience of the defaults.
The preset of a log is its setting with the highest MRR@20, the metric that chooses the number of epochs too.
With --quick each setting is tried with one seed.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.presets import DIGINETICA_XE, preset_lines, read_options
from benchmarks.published import published
from benchmarks.recording import parser, record
from jaxrec.data.dataset import Dataset
from jaxrec.models.recommender import Model
from jaxrec.stages.train import best_epoch, select

VALIDATED = ("--epochs=25", "--patience=2", "--validation_fraction=0.1")
DEFAULTS = {"no preset": (), "constant learning rate": ("--schedule=constant",)}
SAMPLED = ("--loss=cross-entropy",)
WIDE = ("--units=100", "--embedding_dim=100", "--nodense")
DROPPED = (*WIDE, "--dropout_p_embed=0.4", "--dropout_p_hidden=0.5")
DROPPED_LATER = ("--dropout_p_embed=0.3", "--dropout_p_hidden=0.4")
RSC15, DIGINETICA = preset_lines("jaxrec_rsc15"), preset_lines("jaxrec_diginetica")

CASES = {
    "reference": (
        "rsc15_100k",
        VALIDATED,
        {
            "softmax over all items, constant learning rate": ("--schedule=constant",),
            "GRU4Rec, cross-entropy": preset_lines("gru4rec_rsc15"),
            "GRU4Rec, bpr-max": preset_lines("gru4rec_retailrocket"),
            "sampled": SAMPLED,
            "sampled, less dropout of inputs, more of states": (*SAMPLED, *DROPPED_LATER),
            "sampled, BPTT over 8 steps": (*SAMPLED, "--bptt_steps=8"),
            "sampled, 200 units, 128 dimensions": (*SAMPLED, "--units=200", "--embedding_dim=128"),
            "sampled, two layers": (*SAMPLED, "--units=100,100"),
            "sampled, separate tables": (*SAMPLED, "--table=separate"),
            "sampled, Adam": (*SAMPLED, "--optimizer=adam", "--learning_rate=0.002"),
            "sampled, 100 dimensions, no dense head": (*SAMPLED, *WIDE),
            "sampled, 100 dimensions, more dropout": (*SAMPLED, *DROPPED),
            "100 dimensions, more dropout, bpr-max": (*DROPPED, "--loss=bpr-max", "--logq=0"),
            "jaxrec_rsc15": RSC15,
        },
    ),
    "rsc15_default": ("rsc15_100k", (), DEFAULTS),
    "diginetica_default": ("diginetica_quarter", (), DEFAULTS),
    "diginetica": (
        "diginetica_quarter",
        VALIDATED,
        {
            "sampled": SAMPLED,
            "sampled, less dropout of inputs, more of states": (*SAMPLED, *DROPPED_LATER),
            "GRU4Rec, cross-entropy": DIGINETICA_XE,
            "sampled, 100 dimensions, no dense head": (*SAMPLED, *WIDE),
            "sampled, 100 dimensions, more dropout": (*SAMPLED, *DROPPED),
            "jaxrec_diginetica": DIGINETICA,
            "jaxrec_diginetica, 64 lanes": (*DIGINETICA, "--lanes=64"),
            "jaxrec_diginetica, 64 lanes, 100 units": (*DIGINETICA, "--lanes=64", "--units=100", "--embedding_dim=100"),
            "jaxrec_diginetica, 64 lanes, more dropout": (*DIGINETICA, "--lanes=64", "--dropout_p_hidden=0.5"),
            "jaxrec_diginetica, 64 lanes, learning rate 0.1": (*DIGINETICA, "--lanes=64", "--learning_rate=0.1"),
        },
    ),
}


def run_setting(dataset: Dataset, flags: Sequence[str], seed: int) -> dict:
    """The best epoch by validation."""
    model_options, recipe = read_options([*flags, f"--seed={seed}"])
    with tempfile.TemporaryDirectory() as folder:
        selection = select(dataset, Path(folder), Model(model_options, dataset.n_items), recipe)
    return best_epoch(selection)


def main() -> None:
    flags = parser(__doc__, CASES)
    flags.add_argument("--data", type=Path, required=True, help="folder of the published logs")
    given = flags.parse_args()
    rows = []
    for case in [given.case] if given.case else CASES:
        log, held_to, settings = CASES[case]
        dataset = published(given.data / log)
        for name, changes in settings.items():
            for seed in (0,) if given.quick else (0, 1, 2):
                rows.append({"case": case, "setting": name, "seed": seed} | run_setting(dataset, (*changes, *held_to), seed))
                print(rows[-1], flush=True)
    record(given, "settings", rows)


if __name__ == "__main__":
    main()
