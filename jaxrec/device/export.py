"""Export: one TFLite file, what the runtime must know about it, and the personal parameters that every user's device starts from.

The folder holds `model.tflite`, `personal.npz`, the vocabulary where one is given, and `manifest.json`, which is written last.
"""

import dataclasses
import hashlib
import importlib.metadata
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrec.data.own_history import FEATURES
from jaxrec.device.convert import to_tflite
from jaxrec.device.parity import measure_parity
from jaxrec.device.runtime import MANIFEST, MODEL, PERSONAL, STATE, write_state
from jaxrec.device.signatures import ExportOptions, Signature, ship, signatures
from jaxrec.files import whole_file, write_json
from jaxrec.learning.personal_recipe import PersonalOptions
from jaxrec.learning.step import Rule
from jaxrec.models.leaves import named
from jaxrec.models.recommender import Model, Params

RULE = PersonalOptions().rule
"""How a device learns where nothing else is said."""

PACKAGES = ("jax", "litert-converter", "ai-edge-litert")


def export(
    model: Model,
    params: Params,
    history: Sequence[float],
    offset_table: np.ndarray,
    options: ExportOptions,
    folder: Path,
    rule: Rule = RULE,
    vocabulary: Path | None = None,
) -> dict[str, Any]:
    """Convert, compare with JAX, write the folder; returns the manifest.

    Args:
      params: shared and personal parameters; the personal ones are what a device starts from.
      history: weights of the history prior, one for each of `jaxrec.data.own_history.FEATURES`; the runtime reads them in the manifest.
      offset_table: added to the score of an item as a drawn negative, [items].
      rule: how the device learns.
      vocabulary: file that tells which item has which index; copied.

    Raises:
      InputError: the converter or the runtime is not installed.
      RuntimeError: the converted model does not compute what JAX computes; nothing is written.
    """
    began = time.perf_counter()
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        shipped, personal = ship(model, params, offset_table, rule, options.precision)
        entries = signatures(shipped, personal, options)
        flatbuffer = to_tflite(entries)
        errors = measure_parity(entries, model.n_items, flatbuffer)
    manifest = {
        "model_bytes": len(flatbuffer),
        "sha256": hashlib.sha256(flatbuffer).hexdigest(),
        "precision": options.precision,
        "history": dict(zip(FEATURES, map(float, history), strict=True)),
        "rule": dataclasses.asdict(rule),
        "items": model.n_items,
        "vocabulary": None if vocabulary is None else vocabulary.name,
        **errors,
        "export_seconds": time.perf_counter() - began,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "signatures": {entry.name: described(entry) for entry in entries},
    }
    _write(folder, flatbuffer, entries, vocabulary, manifest)
    return manifest


def described(signature: Signature) -> dict[str, dict]:
    """Names, shapes and types of a signature's inputs and outputs, as JSON."""
    sides = {"inputs": named(signature.example), "outputs": signature.outputs()}
    return {
        side: {name: {"shape": list(of.shape), "dtype": of.dtype.name} for name, of in leaves.items()} for side, leaves in sides.items()
    }


def initial_state(entries: list[Signature]) -> dict[str, np.ndarray]:
    """Personal parameters and optimizer's state of a new device, by name."""
    (learning,) = (entry for entry in entries if entry.name == "train")
    return {name: np.asarray(leaf) for name, leaf in named(learning.example).items() if name.startswith(STATE)}


def _write(folder: Path, flatbuffer: bytes, entries: list[Signature], vocabulary: Path | None, manifest: dict[str, Any]) -> None:
    """Every file whole; until the manifest is there, the runtime refuses the others."""
    (folder / MANIFEST).unlink(missing_ok=True)
    with whole_file(folder / MODEL) as partial:
        partial.write_bytes(flatbuffer)
    write_state(folder / PERSONAL, initial_state(entries), manifest["sha256"])
    if vocabulary is not None:
        with whole_file(folder / vocabulary.name) as partial:
            shutil.copyfile(vocabulary, partial)
    write_json(folder / MANIFEST, manifest)
