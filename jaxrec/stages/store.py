"""The store of personal models: one array per parameter, one row per user, memory-mapped.

personal/store/users.npy [slots] user index of each row (row 0 is the global model, user -1), improved.npy [slots],
last.w_in.npy [slots, ...] and so on.
"""

from pathlib import Path

import jax
import numpy as np

from jaxrec.errors import InputError
from jaxrec.files import whole_folder
from jaxrec.learning.personalize import Personal
from jaxrec.models.leaves import named
from jaxrec.models.recommender import Params


def slots_in(found: list[tuple[np.ndarray, Personal]]) -> tuple[np.ndarray, np.ndarray]:
    """(user of each slot, whether its hold-out agreed), [slots]; slot 0 is the global model, the users follow in the order given."""
    users = np.concatenate([[-1], *(users for users, _ in found)]).astype(np.int32)
    return users, np.concatenate([[True], *(result.improved for _, result in found)])


def write_store(folder: Path, start: Params, found: list[tuple[np.ndarray, Personal]]) -> None:
    """Write the global parameters and those of every fine-tuned user."""
    users, improved = slots_in(found)
    with whole_folder(folder) as partial:
        np.save(partial / "users.npy", users)
        np.save(partial / "improved.npy", improved)
        for name, leaf in named(start).items():
            out = np.lib.format.open_memmap(partial / f"{name}.npy", "w+", np.float32, (len(users), *leaf.shape))
            out[0] = leaf
            row = 1
            for own, result in found:
                out[row : row + len(own)] = named(result.params)[name]
                row += len(own)
            out.flush()


def read_store(folder: Path, start: Params) -> tuple[np.ndarray, np.ndarray, Params]:
    """(user of each slot, whether its hold-out agreed, stacked parameters shaped like `start`), memory-mapped.

    Raises:
      InputError: no store, or one of another model.
    """
    try:
        users, improved = np.load(folder / "users.npy"), np.load(folder / "improved.npy")
        stored = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in named(start)}
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{folder}: expected a store of personal models; {error}") from None
    for name, leaf in named(start).items():
        expected = (len(users), *leaf.shape)
        if stored[name].shape != expected:
            raise InputError(f"{folder / name}.npy: expected shape {expected} of this model; got {stored[name].shape}")
    return users, improved, jax.tree.unflatten(jax.tree.structure(start), stored.values())


def slots_of(users: np.ndarray, improved: np.ndarray, n_users: int) -> np.ndarray:
    """Row of the store that each user's device uses, [n_users]: its own, or row 0 where it has none or its hold-out disagreed."""
    slots = np.zeros(n_users, np.int32)
    slots[users[1:]] = np.where(improved[1:], np.arange(1, len(users)), 0)
    return slots
