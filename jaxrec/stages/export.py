"""The export stage: what training and personalisation left in the workdir becomes the folder that devices receive.

A user's own parameters go beside it, one file for each user that is asked for: `device/users/ID.npz`.
"""

import dataclasses
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from jaxrec.data.dataset import Dataset
from jaxrec.data.storage import VOCABULARY, load_users
from jaxrec.device.export import export
from jaxrec.device.runtime import MANIFEST, PERSONAL, STATE, read_state, write_state
from jaxrec.device.signatures import ExportOptions
from jaxrec.errors import InputError
from jaxrec.files import read_json, remove_folder, sha256
from jaxrec.learning.personal_recipe import PersonalOptions
from jaxrec.learning.personalize import personal_sampler
from jaxrec.models.leaves import named
from jaxrec.stages.history import OFF
from jaxrec.stages.once import differences, once, settings_of
from jaxrec.stages.personalize import RESULT as PERSONALIZED
from jaxrec.stages.personalize import STORE, load_personal
from jaxrec.stages.store import improved, open_store
from jaxrec.stages.train import RESULT as TRAINED
from jaxrec.stages.train import Trained, fingerprint, load_trained

RESULT = Path("device") / MANIFEST
USERS = Path("device/users")


def run_export(dataset: Dataset, workdir: Path, options: ExportOptions, overwrite: bool = False) -> dict[str, Any]:
    """Write `workdir`/device: model.tflite, personal.npz, the vocabulary and manifest.json (returned).

    Devices learn by the rule that users were fine-tuned by, and get the history prior that was chosen there.

    Raises:
      InputError: there is no trained model, or another one or other settings were exported there and `overwrite` is off.
    """

    def work() -> dict[str, Any]:
        trained = load_trained(workdir, dataset)
        training, choice = personalized(workdir, trained)
        trained = trained.trains(training.trainable, training.adapter_rank)
        offsets = device_offsets(dataset.item_counts, options, training)
        folder, vocabulary = (workdir / RESULT).parent, dataset.folder / VOCABULARY
        remove_folder(workdir / USERS)  # they belong to what was exported before
        exported = export(trained.model, trained.params, choice["history"], offsets, options, folder, training.rule, vocabulary)
        return exported | {"personal": {name: choice[name] for name in ("learning_rate", "epochs")}}

    return once(workdir / RESULT, settings_of(options), _inputs(dataset, workdir), overwrite, work)


def export_user(dataset: Dataset, workdir: Path, user: str) -> tuple[Path, bool]:
    """Write what one user's device starts from, for `DeviceModel.restore`: (the file, whether the parameters are the user's own).

    A user without a personal model that helps gets the global parameters.

    Raises:
      InputError: there is no such user, the model is not exported as it is now, or the store keeps no parameters.
    """
    trained = load_trained(workdir, dataset)
    found = np.flatnonzero(load_users(dataset.folder) == user)
    if not len(found):
        raise InputError(f"--user: expected one of the {dataset.n_users:,} users of {dataset.folder}; got {user!r}")
    settings = load_personal(workdir, trained)["settings"]
    if not (workdir / RESULT).exists():
        raise InputError(f"{workdir / RESULT}: expected an exported model; there is none, export without --user first")
    manifest = read_json(workdir / RESULT, "device manifest")
    if changed := differences({"inputs": manifest["inputs"]}, {"settings": {}, "inputs": _inputs(dataset, workdir)}):
        raise InputError(f"{workdir / RESULT}: was made otherwise ({'; '.join(changed)}); export without --user, with --overwrite, first")
    trained = trained.trains(settings["trainable"], settings["adapter_rank"])
    store = open_store(workdir / STORE, trained.model.split(trained.params)[1])
    state, own = read_state((workdir / RESULT).parent / PERSONAL, manifest), bool(improved(store)[found[0]])
    if own:
        (kept, _) = STATE
        state |= {f"{kept}{name}": leaf[0] for name, leaf in named(store.params(found)).items()}
    path = workdir / USERS / f"{quote(user, safe='')}.npz"
    write_state(path, state, manifest["sha256"])
    return path, own


def _inputs(dataset: Dataset, workdir: Path) -> dict[str, str]:
    """Fingerprints of what is exported."""
    stages = {"trained model": TRAINED, "personal models": PERSONALIZED}
    inputs = {name: sha256(workdir / path) if (workdir / path).exists() else "none" for name, path in stages.items()}
    return inputs | {"dataset": fingerprint(dataset)}


def personalized(workdir: Path, trained: Trained) -> tuple[PersonalOptions, dict[str, Any]]:
    """How users were fine-tuned, and what was best for most; defaults and no prior where that stage did not run, or without users."""
    nothing = {"learning_rate": None, "epochs": None, "history": OFF}
    if not (workdir / PERSONALIZED).exists():
        return PersonalOptions(), nothing
    result = load_personal(workdir, trained)
    settings = {name: result["settings"][name] for name in PersonalOptions.__dataclass_fields__}
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return PersonalOptions(**settings), nothing | result


def device_offsets(counts: np.ndarray, options: ExportOptions, personal: PersonalOptions) -> np.ndarray:
    """Offset of every item as a negative on the device, [items]: as in the simulation, for the device's own number of negatives."""
    return np.asarray(personal_sampler(counts, dataclasses.replace(personal, personal_n_sample=options.train_negatives)).drawn_offset)
