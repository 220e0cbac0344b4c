"""The store of personal models: chunks of users, each a folder that appears whole, so that a run that was cut short goes on.

personal/store/started.json              what the chunks come from
personal/store/chunk-000012/users.npy    user index of each row, [U]; improved, rate, epochs, held .npy beside it, and
    last.w_in.npy [U, ...] and so on     personal parameters (keep=full), or
    last.w_in.int8.npy, .scale.npy       their difference from the global ones (keep=int8), or nothing (keep=metrics)
    ranks.npz                            places of the users' test targets, by model
    chunk.json                           seconds, and the process that took them
personal/store/cadence/every-50/chunk-000003.npz  places of test targets by models that were updated on the way, in chunks of their own
personal/store/index.npy                 chunk and row of each user, [users, 2] int32; -1 where a user has none; written last
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrec.compression.rows import quantize_rows
from jaxrec.data.blocks import SessionBlock, round_up
from jaxrec.errors import InputError
from jaxrec.evaluation.networks import score_items, stack_users
from jaxrec.evaluation.ranks import Ranks
from jaxrec.files import read_json, whole_file, whole_folder, write_json
from jaxrec.learning.personalize import Personal
from jaxrec.models.leaves import named
from jaxrec.models.recommender import Model, Params
from jaxrec.stages.once import STARTED

INDEX, RANKS, CHUNK = "index.npy", "ranks.npz", "chunk.json"
CONTENT = "[ci]*"
"""What takes time to make: choice, chunks, cadence, index."""

COLUMNS = ("improved", "rate", "epochs", "held")
"""What is kept of each user beside the parameters; fields of `Personal`."""


class Stored(NamedTuple):
    """One finished chunk without its parameters and ranks.

    Attributes:
      users: index of each, [U].
      columns: {name: [U]} for `COLUMNS`.
      seconds: of fine-tuning.
      process: number of the process that did it.
    """

    users: np.ndarray
    columns: dict[str, np.ndarray]
    seconds: float
    process: int


def is_finished(folder: Path, users: np.ndarray) -> bool:
    """Whether the chunk of these users is there, whole; one of others, as another version may have planned it, does not count."""
    return (folder / CHUNK).exists() and np.array_equal(np.load(folder / "users.npy"), users)


def as_kept(keep: str, start: Params, params: Params) -> Params:
    """Users' parameters [U, ...] as they come back from a store that keeps them so."""
    if keep != "int8":
        return params

    def back(leaf: np.ndarray, start: np.ndarray) -> np.ndarray:
        return _restored(*quantize_difference(leaf, start), start)

    return jax.tree.map(lambda leaf, own: back(np.asarray(leaf), np.asarray(own)), params, start)


def chunk_folder(store: Path, number: int) -> Path:
    """Where a chunk lies once it is finished."""
    return store / f"chunk-{number:06d}"


def write_chunk(
    folder: Path, keep: str, start: Params, users: np.ndarray, result: Personal, ranks: Mapping[str, Ranks], seconds: float
) -> None:
    """Write one chunk; it appears whole or not at all.

    Args:
      seconds: of fine-tuning, in this process.
    """
    with whole_folder(folder) as partial:
        np.save(partial / "users.npy", users)
        for name in COLUMNS:
            np.save(partial / f"{name}.npy", getattr(result, name))
        for name, leaf in named(result.params).items() if keep != "metrics" else ():
            if keep == "full":
                np.save(partial / f"{name}.npy", leaf)
            else:
                values, scale = quantize_difference(leaf, np.asarray(named(start)[name]))
                np.save(partial / f"{name}.int8.npy", values)
                np.save(partial / f"{name}.scale.npy", scale)
        write_ranks(partial / RANKS, ranks)
        write_json(partial / CHUNK, {"seconds": seconds, "process": jax.process_index()})


def read_chunk(folder: Path) -> Stored:
    """What `write_chunk` wrote of the users themselves."""
    columns = {name: np.load(folder / f"{name}.npy") for name in COLUMNS}
    account = read_json(folder / CHUNK, "chunk of personal models")
    return Stored(np.load(folder / "users.npy"), columns, account["seconds"], account["process"])


def write_ranks(path: Path, ranks: Mapping[str, Ranks]) -> None:
    """Write ranks by model; the file appears whole or not at all."""
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, **{f"{model}.{name}": value for model, one in ranks.items() for name, value in vars(one).items()})


def read_ranks(path: Path) -> dict[str, Ranks]:
    """What `write_ranks` wrote."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path) as arrays:
        for name, array in arrays.items():
            model, column = name.rsplit(".", 1)
            found.setdefault(model, {})[column] = array
    return {model: Ranks(**arrays) for model, arrays in found.items()}


def quantize_difference(leaves: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values [U, ...] int8, scale [U, ..., 1] float32) of each user's difference from the global array, scaled along its last axis."""
    away = leaves - start[None]
    values, scale = quantize_rows(away.reshape(-1, away.shape[-1]))
    return values.reshape(away.shape), scale.reshape(*away.shape[:-1], 1)


def _restored(values: np.ndarray, scale: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Users' arrays from what `quantize_difference` gave."""
    return start[None] + values * scale


@dataclasses.dataclass(frozen=True)
class Store:
    """A finished store.

    Attributes:
      index: chunk and row of each user, [users, 2]; -1 where a user has no model.
      start: the global personal parameters, for users without any.
      keep: what it keeps.
    """

    folder: Path
    index: np.ndarray
    start: Params
    keep: str

    def has(self, users: np.ndarray) -> np.ndarray:
        """Whether each user has a personal model, [n] bool."""
        return self.index[users, 0] >= 0

    def params(self, users: np.ndarray) -> Params:
        """Personal parameters of users [n], stacked [n, ...]; the global ones for those who have none."""
        chunk, row = self.index[users].T

        def gather(name: str, start: np.ndarray) -> np.ndarray:
            out = np.broadcast_to(start, (len(users), *start.shape)).copy()
            for number in np.unique(chunk[chunk >= 0]):
                here = chunk == number
                out[here] = _rows(chunk_folder(self.folder, number) / name, self.keep, row[here], start)
            return out

        leaves, structure = jax.tree.flatten(self.start)
        return jax.tree.unflatten(structure, [gather(name, np.asarray(leaf)) for name, leaf in zip(named(self.start), leaves, strict=True)])


def improved(store: Store) -> np.ndarray:
    """Whether each user's device found its own model better, [users] bool."""
    found = np.zeros(len(store.index), bool)
    for number in np.unique(store.index[:, 0][store.index[:, 0] >= 0]):
        folder = chunk_folder(store.folder, number)
        found[np.load(folder / "users.npy")] = np.load(folder / "improved.npy")
    return found


def _rows(path: Path, keep: str, rows: np.ndarray, start: np.ndarray) -> np.ndarray:
    if keep == "full":
        return np.load(f"{path}.npy", mmap_mode="r")[rows]
    values, scale = (np.load(f"{path}.{part}.npy", mmap_mode="r")[rows] for part in ("int8", "scale"))
    return _restored(values, scale, start)


def finish_store(folder: Path, n_users: int, chunks: Mapping[int, np.ndarray]) -> None:
    """Write the index: after that the store can be opened.

    Args:
      chunks: users of every chunk, by its number.
    """
    index = np.full((n_users, 2), -1, np.int32)
    for number, users in chunks.items():
        index[users] = np.stack([np.full(len(users), number), np.arange(len(users))], -1)
    with whole_file(folder / INDEX) as partial, partial.open("wb") as file:
        np.save(file, index)


def open_store(folder: Path, start: Params) -> Store:
    """The finished store of this model.

    Raises:
      InputError: there is none, it keeps no parameters, or they are those of another model.
    """
    try:
        index = np.load(folder / INDEX)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{folder}: expected a finished store of personal models; {error}") from None
    keep = read_json(folder / STARTED, "record of personalisation")["settings"]["keep"]
    if keep == "metrics":
        raise InputError(f"{folder}: expected personal parameters; --keep=metrics kept none")
    for number in index[index[:, 0] >= 0, 0][:1]:
        for name, leaf in named(start).items():
            _check_leaf(chunk_folder(folder, number) / (f"{name}.npy" if keep == "full" else f"{name}.int8.npy"), leaf.shape)
    return Store(folder, index, start, keep)


def _check_leaf(path: Path, shape: tuple[int, ...]) -> None:
    try:
        found: Any = np.load(path, mmap_mode="r").shape[1:]
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{path}: expected personal parameters of this model; {error}") from None
    if found != shape:
        raise InputError(f"{path}: expected shape {shape} of this model; got {found}")


@dataclasses.dataclass(frozen=True)
class StoredScorer:
    """Each user's own model as a store holds it, the global one for everyone else; what a block needs is read when it is scored.

    Attributes:
      mine: whether a user's device uses its own model, [users] bool.
      scored: as in `PersonalScorer`.
    """

    model: Model
    shared: Params
    store: Store
    mine: np.ndarray
    scored: jax.Array | None = None

    def encode(self, block: SessionBlock) -> jax.Array:
        users = np.unique(block.users[block.users >= 0])
        users = users[self.mine[users]]
        # Up to a power of two, so that many blocks share few shapes.
        filled = np.pad(users, (0, round_up(len(users)) - len(users)), mode="edge") if len(users) else users
        found = [(filled, self.store.params(filled))] if len(users) else []
        return stack_users(self.model, self.shared, self.store.start, found, len(self.mine)).encode(block)

    def scores(self, encoded: jax.Array, start: int, stop: int) -> jax.Array:
        return score_items(self.shared, self.scored, encoded, start, stop)
