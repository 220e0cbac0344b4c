"""What a step says to the other devices of a mesh: lanes are spread over its axis `data`, rows of the item tables over its axis `model`.

On one device all of it is the identity.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

DATA, MODEL = "data", "model"


class Spread(NamedTuple):
    """Axes that a step is spread over; None: not spread.

    Attributes:
      lanes: each device of this axis has its own lanes, all the same number.
      tables: each device of this axis has its own rows of the tables, all the same number.
    """

    lanes: str | None = None
    tables: str | None = None


ALONE = Spread()


def own_lanes(spread: Spread, array: jax.Array, lanes: int) -> jax.Array:
    """The rows of this device's lanes, from an array over all lanes, [all lanes, ...] -> [lanes, ...]."""
    return array if spread.lanes is None else jax.lax.dynamic_slice_in_dim(array, first_lane(spread, lanes), lanes)


def first_lane(spread: Spread, lanes: int) -> jax.Array | int:
    """Number of this device's first lane among all."""
    return 0 if spread.lanes is None else jax.lax.axis_index(spread.lanes) * lanes


def all_lanes(spread: Spread, tree: Any) -> Any:
    """Arrays over this device's lanes -> over all lanes, [lanes, ...] -> [all lanes, ...]."""
    return tree if spread.lanes is None else jax.tree.map(lambda array: jax.lax.all_gather(array, spread.lanes, tiled=True), tree)


def sum_over_lanes(spread: Spread, tree: Any) -> Any:
    """The sum over what the lanes of every device gave."""
    return tree if spread.lanes is None else jax.lax.psum(tree, spread.lanes)


def own_rows(spread: Spread, rows: jax.Array, own: int) -> jax.Array:
    """Numbers of table rows as numbers among the `own` rows of this device; `own` for every row that it does not have."""
    if spread.tables is None:
        return rows
    local = rows - jax.lax.axis_index(spread.tables) * own
    return jnp.where((local >= 0) & (local < own), local, own)


def sum_over_tables(spread: Spread, tree: Any) -> Any:
    """The sum over what the rows of every device gave."""
    return tree if spread.tables is None else jax.lax.psum(tree, spread.tables)
