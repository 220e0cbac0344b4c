"""Export: one TFLite file, what the runtime must know about it, and the personal parameters that every user's device starts from.

The folder holds the files of `jaxrec.device.state` and, where one is given, the vocabulary; the manifest is written last.
"""

import dataclasses
import hashlib
import importlib.metadata
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec.data.own_history import FEATURES
from jaxrec.device.convert import to_tflite
from jaxrec.device.parity import measure_parity
from jaxrec.device.shipped import ExportOptions, Shipped, only_items, ship
from jaxrec.device.signatures import Signature, signatures
from jaxrec.device.state import ITEMS, MANIFEST, MODEL, PERSONAL, STATE, write_arrays
from jaxrec.errors import InputError
from jaxrec.files import whole_file, write_json
from jaxrec.learning.losses import MASKED
from jaxrec.learning.personal_recipe import PersonalOptions, UserRunOptions
from jaxrec.learning.personalize import drawn_offsets
from jaxrec.learning.step import Rule
from jaxrec.models.leaves import named
from jaxrec.models.recommender import Model, Params

NO_ADVICE: Mapping[str, Any] = {"learning_rate": None, "epochs": None}
PACKAGES = ("jax", "litert-converter", "ai-edge-litert")


class Contents(NamedTuple):
    """What is exported.

    Attributes:
      params: shared and personal parameters of the global model.
      weights: how often each item is drawn as a negative on the device, up to a factor, [items].
      popular: `jaxrec.data.own_history.popularity` of all items, [items].
      history: weights of the history prior, one for each of `jaxrec.data.own_history.FEATURES`.
      rule: how the device learns; by default as users are fine-tuned where nothing else is said.
      advice: learning rate and epochs that helped most users.
      vocabulary: file that tells which item has which index; copied.
      personal: what a device starts from; None: the global model's.
      clicks: real clicks one after another, [events] int32, that the exported model is checked on beside random ones.
    """

    model: Model
    params: Params
    weights: np.ndarray
    popular: np.ndarray
    history: tuple[float, ...] = (0.0,) * len(FEATURES)
    rule: Rule = PersonalOptions().rule
    advice: Mapping[str, Any] = NO_ADVICE
    vocabulary: Path | None = None
    personal: Params | None = None
    clicks: np.ndarray | None = None


class Converted(NamedTuple):
    """A model that was found to compute what JAX computes, and what goes beside it.

    Attributes:
      flatbuffer: the TFLite file.
      state: personal parameters and optimizer's state of a new device, by name.
      known: what the device knows of the items, by name.
      vocabulary: as in `Contents`.
      manifest: what the runtime must know.
    """

    flatbuffer: bytes
    state: dict[str, np.ndarray]
    known: dict[str, np.ndarray]
    vocabulary: Path | None
    manifest: dict[str, Any]


def export(contents: Contents, options: ExportOptions, folder: Path, items: np.ndarray | None = None) -> dict[str, Any]:
    """Convert, compare with JAX and write the folder; returns the manifest. Other arguments and errors are those of `convert`."""
    converted = convert(contents, options, items)
    write_files(converted, folder)
    write_json(folder / MANIFEST, converted.manifest)
    return converted.manifest


def convert(contents: Contents, options: ExportOptions, items: np.ndarray | None = None) -> Converted:
    """Convert and compare with JAX.

    Args:
      items: the items that the device knows, in ascending order; None: all. With `rows` "streamed" they come later, and must be None.

    Raises:
      InputError: the converter or the runtime is not installed.
      RuntimeError: the converted model does not compute what JAX computes.
    """
    began, options = time.perf_counter(), options.sized_as(PersonalOptions(), UserRunOptions())
    known = contents if items is None else _only(contents, items)
    if options.rows == "streamed":
        known = _only(contents, np.arange(options.streamed_rows) % contents.model.n_items)  # any rows: they are inputs
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        shipped, personal = _shipped(known, options)
        entries = signatures(shipped, personal, options)
        flatbuffer = to_tflite(entries)
        errors = measure_parity(signatures(shipped.looped(), personal, options), known.model.n_items, flatbuffer, known.clicks)
    manifest = {
        "model_bytes": len(flatbuffer),
        "sha256": hashlib.sha256(flatbuffer).hexdigest(),
        "fingerprint": _fingerprint(flatbuffer, contents),
        **{name: getattr(options, name) for name in ("precision", "rows", "baked")},
        "history": dict(zip(FEATURES, map(float, contents.history), strict=True)),
        "rule": dataclasses.asdict(contents.rule),
        "personal": dict(contents.advice),
        "items": known.model.n_items,
        "vocabulary_items": contents.model.n_items,
        "vocabulary": None if contents.vocabulary is None else contents.vocabulary.name,
        **errors,
        "export_seconds": time.perf_counter() - began,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "signatures": {entry.name: described(entry) for entry in entries},
    }
    arrays = {} if options.rows == "streamed" else _known_items(known, items)
    return Converted(flatbuffer, initial_state(entries), arrays, contents.vocabulary, manifest)


def write_files(converted: Converted, folder: Path) -> None:
    """Write every file but the manifest, each whole; until that is there again, the runtime refuses the others."""
    (folder / MANIFEST).unlink(missing_ok=True)
    with whole_file(folder / MODEL) as partial:
        partial.write_bytes(converted.flatbuffer)
    fingerprint = converted.manifest["fingerprint"]
    write_arrays(folder / PERSONAL, converted.state, fingerprint)
    write_arrays(folder / ITEMS, converted.known, fingerprint)
    if converted.vocabulary is not None:
        with whole_file(folder / converted.vocabulary.name) as partial:
            shutil.copyfile(converted.vocabulary, partial)


def write_rows(contents: Contents, options: ExportOptions, items: np.ndarray, manifest: Mapping[str, Any], path: Path) -> None:
    """The item rows that the cloud sends to a device, for `DeviceModel.receive`.

    Raises:
      InputError: there are more items than the device holds rows.
    """
    most = options.streamed_rows
    if len(items) > most:
        raise InputError(f"--streamed_rows: expected at least the {len(items):,} items of the user; got {most:,}")
    known = _only(contents, items)
    tables = _shipped(known, options)[0].tables
    padded = jax.tree.map(lambda leaf: np.pad(leaf, [(0, most - len(items))] + [(0, 0)] * (leaf.ndim - 1)), tables)
    bias = np.pad(np.asarray(tables.item_bias), (0, most - len(items)), constant_values=MASKED)  # a row of nothing is never the best
    write_arrays(path, named({"rows": padded._replace(item_bias=bias)}) | _known_items(known, items), manifest["fingerprint"])


def described(signature: Signature) -> dict[str, dict]:
    """Names, shapes and types of a signature's inputs and outputs, as JSON."""
    sides = {"inputs": named(signature.example), "outputs": signature.outputs()}
    return {
        side: {name: {"shape": list(of.shape), "dtype": of.dtype.name} for name, of in leaves.items()} for side, leaves in sides.items()
    }


def initial_state(entries: list[Signature]) -> dict[str, np.ndarray]:
    """Personal parameters and optimizer's state of a new device, by name; none where they are baked in."""
    learning = next((entry.example for entry in entries if entry.name == "train"), {})
    return {name: np.asarray(leaf) for name, leaf in named(learning).items() if name.startswith(STATE)}


def _shipped(contents: Contents, options: ExportOptions) -> tuple[Shipped, Params]:
    """(what all devices get, what this one starts from)."""
    offsets = drawn_offsets(contents.weights / contents.weights.sum(), options.train_negatives)
    shipped, start = ship(contents.model, contents.params, offsets, contents.popular, contents.rule, contents.history, options.precision)
    return shipped, start if contents.personal is None else contents.personal


def _only(contents: Contents, items: np.ndarray) -> Contents:
    """The same of some items alone, renumbered."""
    model, params = only_items(contents.model, contents.params, items)
    clicks = contents.clicks
    if clicks is not None:
        place = np.searchsorted(items, clicks).clip(max=len(items) - 1)
        clicks = place[items[place] == clicks].astype(np.int32)
    columns = {"weights": contents.weights[items], "popular": contents.popular[items]}
    return contents._replace(model=model, params=params, clicks=clicks, **columns)


def _known_items(known: Contents, items: np.ndarray | None) -> dict[str, np.ndarray]:
    weights = {"weights": np.asarray(known.weights, np.float32)}
    return weights if items is None else weights | {"items": np.asarray(items, np.int32)}


def _fingerprint(flatbuffer: bytes, contents: Contents) -> str:
    """What tells two models apart: where rows are streamed, a file may hold no learnt number at all."""
    found = hashlib.sha256(flatbuffer)
    for leaf in jax.tree.leaves((contents.params, contents.personal, contents.weights, contents.popular)):
        found.update(np.ascontiguousarray(leaf))
    return found.hexdigest()
