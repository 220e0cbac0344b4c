"""The files of an exported model on a device, and how they are checked: a damaged one mostly loads and runs, with other results.

`model.tflite`, `manifest.json` (which tells the model's digest), `personal.npz` (what a user's device starts from) and `items.npz` (what it
knows of its items). Arrays carry the fingerprint of the model they belong to: of its file and of the parameters that the file may not hold.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec.errors import InputError
from jaxrec.files import read_json, sha256, whole_file

MODEL, MANIFEST, PERSONAL, ITEMS = "model.tflite", "manifest.json", "personal.npz", "items.npz"
OPTIMIZER = "optimizer."
STATE = ("personal.", OPTIMIZER)
"""How the names of what a user's device keeps and trains begin."""
FINGERPRINT = "fingerprint"
"""The entry of a file of arrays that names the model it belongs to."""
NEEDED = {"sha256": str, "fingerprint": str, "signatures": dict, "rows": str, "items": int, "vocabulary_items": int, "personal": dict}
"""What the runtime reads in a manifest."""


def read_manifest(path: Path) -> dict[str, Any]:
    """What an export tells of itself.

    Raises:
      InputError: the file is missing, damaged, or not what this version of the export writes.
    """
    manifest = read_json(path, "device manifest")
    wrong = [name for name, kind in NEEDED.items() if not isinstance(manifest, dict) or not isinstance(manifest.get(name), kind)]
    if wrong:
        raise InputError(f"{path}: expected a device manifest with {wrong[0]!r}; remove the folder and export again")
    return manifest


def check_model(path: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a model file other than the one that the manifest tells of."""
    try:
        found = sha256(path)
    except FileNotFoundError:
        raise InputError(f"{path}: expected an exported model; there is no such file") from None
    except OSError as error:
        raise InputError(f"{path}: expected an exported model; it cannot be read ({error})") from None
    if found != manifest["sha256"]:
        raise InputError(f"{path}: expected the file with sha256 {manifest['sha256']}, as the manifest says; got {found}")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], fingerprint: str) -> None:
    """Write arrays by name and the fingerprint of the model they belong to, whole or not at all.

    Raises:
      InputError: it cannot be written there; what stood there stays.
    """
    try:
        with whole_file(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays, **{FINGERPRINT: np.array(fingerprint)})
    except OSError as error:
        raise InputError(f"{path}: expected a file that can be written; got: {error}") from None


def read_arrays(path: Path, manifest: Mapping[str, Any], what: str) -> dict[str, np.ndarray]:
    """What `write_arrays` wrote for the model of the manifest; `what` names it in errors.

    Raises:
      InputError: the file is missing, damaged, belongs to another model or holds a number that is not finite.
    """
    try:
        # A file opened here is closed whatever np.load makes of it.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise InputError(f"{path}: expected {what}; there is no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, TypeError, AttributeError, RuntimeError, KeyError) as error:
        raise InputError(f"{path}: expected {what}; got something else ({error})") from None
    fingerprint = str(found.pop(FINGERPRINT, "none"))
    if fingerprint != manifest["fingerprint"]:
        raise InputError(f"{path}: expected {what} of the model {manifest['fingerprint'][:12]}; got those of {fingerprint[:12]}")
    for name, array in found.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{path}: expected finite numbers as {name}; got NaN or infinity")
    return found


def read_state(path: Path, manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Personal parameters and the optimizer's state as `train` takes them; without `train` there is none.

    Raises:
      InputError: as `read_arrays`, or the arrays are not those that `train` takes.
    """
    arrays = read_arrays(path, manifest, "personal parameters") if "train" in manifest["signatures"] else {}
    return state_in(path, arrays, manifest)


def state_in(path: Path, arrays: Mapping[str, np.ndarray], manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What `read_state` gives of a file's arrays that were read already."""
    if "train" not in manifest["signatures"]:
        return {}
    found = {name: array for name, array in arrays.items() if name.startswith(STATE)}
    check_inputs(path, found, manifest, "train", STATE)
    return found


def check_inputs(path: Path, found: Mapping[str, np.ndarray], manifest: Mapping[str, Any], signature: str, begin: str | tuple) -> None:
    """Refuse arrays other than the inputs of a signature whose names begin so."""
    inputs = manifest["signatures"][signature]["inputs"]
    expected = {name: (tuple(of["shape"]), of["dtype"]) for name, of in inputs.items() if name.startswith(begin)}
    got = {name: (array.shape, array.dtype.name) for name, array in found.items()}
    if got != expected:
        wrong = sorted(name for name in got.keys() | expected.keys() if got.get(name) != expected.get(name))
        raise InputError(f"{path}: expected {wrong[0]} with {expected.get(wrong[0])}; got {got.get(wrong[0])}")
