"""What a step says to the other devices of a mesh; on one device all of it is the identity."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh

from jaxrec.learning.mesh import DATA, MODEL, size


class Spread(NamedTuple):
    """Axes that a step is spread over; None: not spread.

    Attributes:
      lanes: each device of this axis has its own lanes, all the same number.
      tables: each device of this axis has its own rows of the tables, all the same number.
    """

    lanes: str | None = None
    tables: str | None = None


ALONE = Spread()


def spread_over(mesh: Mesh | None) -> Spread:
    """How a step is spread over a mesh."""
    return Spread(*(axis if size(mesh, axis) > 1 else None for axis in (DATA, MODEL)))


def own_lanes(spread: Spread, array: jax.Array, lanes: int) -> jax.Array:
    """The part of this device's lanes, from an array over all lanes, [T, all lanes, ...] -> [T, lanes, ...]."""
    return array if spread.lanes is None else jax.lax.dynamic_slice_in_dim(array, first_lane(spread, lanes), lanes, axis=1)


def first_lane(spread: Spread, lanes: int) -> jax.Array | int:
    """Number of this device's first lane among all."""
    return 0 if spread.lanes is None else jax.lax.axis_index(spread.lanes) * lanes


def all_lanes(spread: Spread, tree: Any) -> Any:
    """Arrays of integers or truth values over this device's lanes -> over all lanes, [lanes, ...] -> [all lanes, ...]."""
    if spread.lanes is None:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    lanes = len(leaves[0])
    # One message for all: what costs is their number.
    joined = jnp.concatenate([leaf.reshape(lanes, -1).astype(jnp.int32) for leaf in leaves], 1)
    parts = jnp.split(jax.lax.all_gather(joined, spread.lanes, tiled=True), np.cumsum([leaf[0].size for leaf in leaves])[:-1], 1)
    whole = [part.reshape(-1, *leaf.shape[1:]).astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, whole)


def sum_over_lanes(spread: Spread, tree: Any) -> Any:
    """The sum over what the lanes of every device gave, in one message."""
    if spread.lanes is None:
        return tree
    joined, part = ravel_pytree(tree)
    return part(jax.lax.psum(joined, spread.lanes))


def own_rows(spread: Spread, rows: jax.Array, own: int) -> jax.Array:
    """Numbers of table rows as numbers among the `own` rows of this device; `own` for every row that it does not have."""
    if spread.tables is None:
        return rows
    local = rows - jax.lax.axis_index(spread.tables) * own
    return jnp.where((local >= 0) & (local < own), local, own)


def sum_over_tables(spread: Spread, tree: Any) -> Any:
    """The sum over what the rows of every device gave."""
    return tree if spread.tables is None else jax.lax.psum(tree, spread.tables)
