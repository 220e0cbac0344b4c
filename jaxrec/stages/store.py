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
from jaxrec.models.recommender import Params


def leaf_name(path: tuple) -> str:
    """The path to a leaf as text, such as last.w_in."""
    return ".".join(str(part.key) for part in path)


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
        for path, leaf in jax.tree_util.tree_leaves_with_path(start):
            name = partial / f"{leaf_name(path)}.npy"
            out = np.lib.format.open_memmap(name, "w+", np.float32, (len(users), *leaf.shape))
            out[0] = leaf
            row = 1
            for own, result in found:
                out[row : row + len(own)] = _at(result.params, path)
                row += len(own)
            out.flush()


def read_store(folder: Path, start: Params) -> tuple[np.ndarray, np.ndarray, Params]:
    """(user of each slot, whether its hold-out agreed, stacked parameters shaped like `start`), memory-mapped.

    Raises:
      InputError: no store, or one of another model.
    """
    try:
        users, improved = np.load(folder / "users.npy"), np.load(folder / "improved.npy")
        leaves = jax.tree_util.tree_map_with_path(lambda path, _: np.load(folder / f"{leaf_name(path)}.npy", mmap_mode="r"), start)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{folder}: expected a store of personal models; {error}") from None
    for (path, leaf), stored in zip(jax.tree_util.tree_leaves_with_path(start), jax.tree.leaves(leaves), strict=True):
        if stored.shape != (len(users), *leaf.shape):
            expected = (len(users), *leaf.shape)
            raise InputError(f"{folder / leaf_name(path)}.npy: expected shape {expected} of this model; got {stored.shape}")
    return users, improved, leaves


def slots_of(users: np.ndarray, improved: np.ndarray, n_users: int) -> np.ndarray:
    """Row of the store that each user's device uses, [n_users]: its own, or row 0 where it has none or its hold-out disagreed."""
    slots = np.zeros(n_users, np.int32)
    slots[users[1:]] = np.where(improved[1:], np.arange(1, len(users)), 0)
    return slots


def _at(params: Params, path: tuple) -> np.ndarray:
    for part in path:
        params = params[part.key]
    return params
