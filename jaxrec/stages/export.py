"""The export stage: what training and personalisation left in the workdir becomes the folder that devices receive."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec.data.dataset import Dataset
from jaxrec.data.storage import VOCABULARY
from jaxrec.device.export import export
from jaxrec.device.runtime import MANIFEST
from jaxrec.device.signatures import ExportOptions
from jaxrec.files import sha256
from jaxrec.learning.personalize import PersonalOptions, personal_sampler
from jaxrec.stages.once import once, settings_of
from jaxrec.stages.personalize import RESULT as PERSONALIZED
from jaxrec.stages.personalize import load_personal
from jaxrec.stages.train import RESULT as TRAINED
from jaxrec.stages.train import Trained, fingerprint, load_trained

RESULT = Path("device") / MANIFEST


def run_export(dataset: Dataset, workdir: Path, options: ExportOptions, overwrite: bool = False) -> dict[str, Any]:
    """Write `workdir`/device: model.tflite, personal.npz, the vocabulary and manifest.json (returned).

    Devices learn by the rule that users were fine-tuned by, and get the history prior that was chosen there.

    Raises:
      InputError: there is no trained model, or another one or other settings were exported there and `overwrite` is off.
    """

    def work() -> dict[str, Any]:
        trained = load_trained(workdir, dataset)
        personal, choice = personalized(workdir, trained)
        offsets = device_offsets(dataset.item_counts, options, personal)
        folder, vocabulary = (workdir / RESULT).parent, dataset.folder / VOCABULARY
        learning = {"learning_rate": choice["learning_rate"], "epochs": personal.personal_epochs}
        exported = export(trained.model, trained.params, choice["history_weight"], offsets, options, folder, personal.rule, vocabulary)
        return exported | {"personal": learning}

    stages = {"trained model": TRAINED, "personal models": PERSONALIZED}
    inputs = {name: sha256(workdir / path) if (workdir / path).exists() else "none" for name, path in stages.items()}
    return once(workdir / RESULT, settings_of(options), inputs | {"dataset": fingerprint(dataset)}, overwrite, work)


def personalized(workdir: Path, trained: Trained) -> tuple[PersonalOptions, dict[str, Any]]:
    """How users were fine-tuned, and what was chosen for them; defaults and no prior where that stage did not run, or without users."""
    if not (workdir / PERSONALIZED).exists():
        return PersonalOptions(), {"learning_rate": None, "history_weight": 0.0}
    result = load_personal(workdir, trained)
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in result["settings"].items()}
    return PersonalOptions(**settings), {"learning_rate": None, "history_weight": 0.0} | result


def device_offsets(counts: np.ndarray, options: ExportOptions, personal: PersonalOptions) -> np.ndarray:
    """Offset of every item as a negative on the device, [items]: as in the simulation, for the device's own number of negatives."""
    return np.asarray(personal_sampler(counts, dataclasses.replace(personal, personal_n_sample=options.train_negatives)).drawn_offset)
