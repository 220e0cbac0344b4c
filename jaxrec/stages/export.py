"""The export stage: what training and personalisation left in the workdir becomes the folder that devices receive.

What belongs to one user goes beside it, for each user that is asked for: `device/users/ID.npz` (personal parameters),
`device/users/ID.rows.npz` (item rows, where they are streamed), or a folder `device/users/ID` of its own (a model that knows only the
user's items, or whose parameters are baked in).
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jax
import numpy as np

from jaxrec.data.blocks import Histories
from jaxrec.data.dataset import Dataset
from jaxrec.data.own_history import popularity
from jaxrec.data.storage import VOCABULARY, fingerprint, load_users
from jaxrec.device.export import NO_ADVICE, Contents, Converted, convert, export, write_files, write_rows
from jaxrec.device.shipped import ExportOptions
from jaxrec.device.state import MANIFEST, PERSONAL, STATE, read_manifest, read_state, write_arrays
from jaxrec.errors import InputError
from jaxrec.files import remove_folder, sha256, whole_folder
from jaxrec.learning.personal_recipe import PersonalOptions, UserRunOptions
from jaxrec.learning.personalize import drawn_weights
from jaxrec.models.leaves import named
from jaxrec.models.recommender import Params
from jaxrec.options import Options
from jaxrec.stages.candidates import candidates_of
from jaxrec.stages.history import OFF
from jaxrec.stages.once import STARTED, differences, once, settings_of
from jaxrec.stages.personalize import RESULT as PERSONALIZED
from jaxrec.stages.personalize import STORE, as_trained_on_devices, load_personal
from jaxrec.stages.store import improved, open_store
from jaxrec.stages.train import RESULT as TRAINED
from jaxrec.stages.train import Trained, load_trained

log = logging.getLogger("jaxrec")

RESULT = Path("device") / MANIFEST
USERS = Path("device/users")
CLICKS = 10_000
"""Real clicks, the last before the test period, that an exported model is checked on."""


class UserExport(NamedTuple):
    """What one user's device starts from.

    Attributes:
      paths: what was written.
      own: whether the parameters are the user's own; otherwise they are the global ones.
    """

    paths: list[Path]
    own: bool


def run_export(dataset: Dataset, workdir: Path, options: ExportOptions, overwrite: bool = False) -> dict[str, Any]:
    """Write `workdir`/device: model.tflite, personal.npz, items.npz, the vocabulary and manifest.json (returned).

    Devices learn by the rule that users were fine-tuned by, and get the history prior that was chosen there.

    Raises:
      InputError: there is no trained model, another one or other settings were exported there and `overwrite` is off, or the options ask
        for what belongs to one user.
      RuntimeError: the converted model does not compute what JAX computes; an earlier export stays.
    """
    if options.rows == "candidates":
        raise InputError("--rows=candidates: expected --user; which items the file holds depends on the user")
    trained = load_trained(workdir, dataset)

    def work() -> Converted:
        return convert(*_contents(dataset, workdir, trained, options))

    def write(converted: Converted) -> dict[str, Any]:
        remove_folder(workdir / USERS)  # they belong to what was exported before
        write_files(converted, (workdir / RESULT).parent)
        return converted.manifest

    return once(workdir / RESULT, settings_of(options), _inputs(dataset, workdir), overwrite, work, write)


def export_user(dataset: Dataset, workdir: Path, user: str, options: ExportOptions) -> UserExport:
    """Write what one user's device starts from.

    A user without a personal model that helps gets the global parameters.

    Raises:
      InputError: there is no such user, the model is not exported as it is now, or the store keeps no parameters.
    """
    trained, number = load_trained(workdir, dataset), _number(dataset, user)
    path = workdir / USERS / quote(user, safe="").replace(".", "%2E")
    if options.baked and options.rows == "streamed":
        raise InputError("--baked: expected item rows in the file of one user, bundled or candidates; got --rows=streamed")
    if options.rows == "candidates" or options.baked:
        return _own_folder(dataset, workdir, trained, number, options, path)
    manifest, own = _exported(dataset, workdir), _own_parameters(workdir, trained, number)
    if manifest["baked"]:
        raise InputError(f"--user: expected a model that takes parameters; {workdir / RESULT} has them baked in, use --baked here too")
    if options.rows == "streamed" != manifest["rows"]:
        raise InputError(f"--rows=streamed: expected {workdir / RESULT} to be exported so; its rows are {manifest['rows']}")
    state = read_state((workdir / RESULT).parent / PERSONAL, manifest)
    if own is not None:
        (kept, _) = STATE
        state |= {f"{kept}{name}": leaf for name, leaf in named(own).items()}
    paths = [path.with_name(f"{path.name}.npz")]
    write_arrays(paths[0], state, manifest["fingerprint"])
    if manifest["rows"] == "streamed":
        exported = _options(ExportOptions, manifest["settings"])
        paths.append(path.with_name(f"{path.name}.rows.npz"))
        items = known_items(dataset, workdir, number, exported.candidates)
        write_rows(*_contents(dataset, workdir, trained, exported), items, manifest, paths[1])
    return UserExport(paths, own is not None)


def _own_folder(dataset: Dataset, workdir: Path, trained: Trained, user: int, options: ExportOptions, path: Path) -> UserExport:
    own = _own_parameters(workdir, trained, user)
    contents, sized = _contents(dataset, workdir, trained, options)
    items = known_items(dataset, workdir, user, options.candidates) if options.rows == "candidates" else None
    with whole_folder(path) as partial:
        export(contents._replace(personal=own), sized, partial, items)
    return UserExport([path], own is not None)


def known_items(dataset: Dataset, workdir: Path, user: int, most: int) -> np.ndarray:
    """What a device that does not know all items gets, in ascending order: candidates, and the user's own items before the test.

    Candidates are those that were picked for the user, as many as the device ranks at a time, or the most popular items where none were.
    """
    picked = candidates_of(workdir, dataset, user)
    candidates = (np.argsort(-dataset.item_counts, kind="stable") if picked is None else picked)[:most]
    sessions = Histories(dataset).sessions_of(user, dataset.period("test").start)
    own = [dataset.items[dataset.offsets[session] : dataset.offsets[session + 1]] for session in sessions]
    return np.unique(np.concatenate([candidates, *own]))


def _contents(dataset: Dataset, workdir: Path, trained: Trained, options: ExportOptions) -> tuple[Contents, ExportOptions]:
    """What is exported, and the options with every size."""
    training, run, choice = personalized(workdir, trained)
    if training.personal_dropout_p_embed or training.personal_dropout_p_hidden:
        log.warning("devices train without the dropout that users were fine-tuned with")
    if (run.personal_negatives == "candidates") != (options.rows != "bundled"):
        against = {"candidates": "candidates and own items", "all": "all items"}[run.personal_negatives]
        log.warning("devices draw negatives from the items whose rows they hold; users were fine-tuned against %s", against)
    trained = trained.trains(training.trainable, training.adapter_rank)
    last = int(dataset.offsets[dataset.period("test").start])
    contents = Contents(
        trained.model,
        trained.params,
        weights=drawn_weights(dataset.item_counts, training),
        popular=popularity(dataset.item_counts),
        history=tuple(choice["history"]),
        rule=training.rule,
        advice={name: choice[name] for name in NO_ADVICE},
        vocabulary=dataset.folder / VOCABULARY,
        clicks=np.asarray(dataset.items[max(last - CLICKS, 0) : last]),
    )
    return contents, options.sized_as(training, run)


def _number(dataset: Dataset, user: str) -> int:
    found = np.flatnonzero(load_users(dataset.folder) == user)
    if not len(found):
        raise InputError(f"--user: expected one of the {dataset.n_users:,} users of {dataset.folder}; got {user!r}")
    return int(found[0])


def _own_parameters(workdir: Path, trained: Trained, user: int) -> Params | None:
    """The user's personal parameters; None where the device uses the global ones."""
    trained, result = as_trained_on_devices(workdir, trained)
    store = open_store(workdir / STORE, trained.model.split(trained.params)[1])
    if not (result["fine_tuned_is_used"] and improved(store)[user]):
        return None
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], store.params(np.array([user])))


def _exported(dataset: Dataset, workdir: Path) -> dict[str, Any]:
    """The manifest of what all devices get, which must be of what is trained now."""
    if not (workdir / RESULT).exists():
        raise InputError(f"{workdir / RESULT}: expected an exported model; there is none, export without --user first")
    manifest = read_manifest(workdir / RESULT)
    if changed := differences({"inputs": manifest.get("inputs", {})}, {"settings": {}, "inputs": _inputs(dataset, workdir)}):
        raise InputError(f"{workdir / RESULT}: was made otherwise ({'; '.join(changed)}); export without --user, with --overwrite, first")
    return manifest


def _inputs(dataset: Dataset, workdir: Path) -> dict[str, str]:
    """Fingerprints of what is exported."""
    stages = {"trained model": TRAINED, "personal models": PERSONALIZED}
    inputs = {name: sha256(workdir / path) if (workdir / path).exists() else "none" for name, path in stages.items()}
    return inputs | {"dataset": fingerprint(dataset.manifest)}


def personalized(workdir: Path, trained: Trained) -> tuple[PersonalOptions, UserRunOptions, dict[str, Any]]:
    """How users were fine-tuned, and what was best for most; defaults and no prior where that stage did not run, or without users."""
    nothing = {**NO_ADVICE, "history": OFF}
    if not (workdir / PERSONALIZED).exists():
        if (workdir / STORE / STARTED).exists():
            raise InputError(f"{workdir / PERSONALIZED}: expected `personalize` to be finished; it was begun, run it again")
        return PersonalOptions(), UserRunOptions(), nothing
    result = load_personal(workdir, trained)
    return _options(PersonalOptions, result["settings"]), _options(UserRunOptions, result["settings"]), nothing | result


def _options(kind: type[Options], settings: dict[str, Any]) -> Any:
    """Options as they were recorded; those that change no result were not."""
    found = {name: settings[name] for name in kind.__dataclass_fields__ if name in settings}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in found.items()})
