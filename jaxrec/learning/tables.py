"""Item tables in training: an item's weights and what the optimizer keeps for them stand side by side in one row, read once and written
once by an update.

An update touches only the rows it uses, so it costs the same whatever the number of items.

Dimensions: `width` weights of an item, `kept` numbers that the optimizer keeps for each, R positions of an update (an item may stand at
several).
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrec.learning.spread import Spread, own_rows, sum_over_tables


class Table(NamedTuple):
    """A table and its optimizer's state.

    Attributes:
      rows: weights, then what the optimizer keeps for them, [items, (1 + kept) * width]: one wide row is scattered faster than several.
      scalars: what the optimizer keeps once, such as a count of updates.
    """

    rows: jax.Array
    scalars: tuple[jax.Array, ...]


def pack(optimizer: optax.GradientTransformation, weights: jax.Array, rows: int | None = None) -> Table:
    """A table for training with new optimizer state, from weights [items, ...]; filled up to so many rows."""
    wide = weights.reshape(len(weights), -1)
    wide = wide if rows is None else jnp.pad(wide, ((0, rows - len(wide)), (0, 0)))
    leaves = jax.tree.leaves(optimizer.init(wide))
    return Table(jnp.concatenate([wide, *(leaf for leaf in leaves if leaf.ndim)], 1), tuple(leaf for leaf in leaves if not leaf.ndim))


def weights_of(table: Table, shape: tuple[int, ...]) -> jax.Array:
    """The weights of all items; `shape` is that of one item's, () for a bias."""
    return table.rows[:, : math.prod(shape)].reshape(-1, *shape)


def read(spread: Spread, table: Table, items: jax.Array, width: int) -> tuple[jax.Array, jax.Array]:
    """(weights of items [R, width] from whatever device has them, whole rows [R, ...] of those that this device has)."""
    local = own_rows(spread, items, len(table.rows))
    rows = table.rows.at[local].get(mode="clip")
    weights = rows[:, :width]
    if spread.tables is not None:
        weights = sum_over_tables(spread, jnp.where((local < len(table.rows))[:, None], weights, 0.0))
    return weights, rows


def move(
    optimizer: optax.GradientTransformation,
    table: Table,
    rows: jax.Array,
    numbers: jax.Array,
    gradients: jax.Array,
    learning_rate: jax.Array,
    weight_decay: float = 0.0,
) -> Table:
    """One optimizer step on some rows; nothing else is written.

    Args:
      rows: the whole rows as they were read, [R, (1 + kept) * width].
      numbers: which rows they are, each once; out of the table's range where nothing moves, [R].
      gradients: [R, width].
    """
    width = gradients.shape[1]
    weights, kept = rows[:, :width], _unpack(optimizer, rows[:, width:], table.scalars, gradients)
    updates, kept = optimizer.update(gradients, kept)
    updates = updates + weight_decay * weights if weight_decay else updates
    leaves = jax.tree.leaves(kept)
    new = jnp.concatenate([weights - learning_rate * updates, *(leaf for leaf in leaves if leaf.ndim)], 1)
    return Table(table.rows.at[numbers].set(new, mode="drop"), tuple(leaf for leaf in leaves if not leaf.ndim))


def _unpack(optimizer: optax.GradientTransformation, rows: jax.Array, scalars: tuple[jax.Array, ...], like: jax.Array) -> Any:
    """The optimizer's own state of weights shaped as `like`."""
    shapes, structure = jax.tree.flatten(jax.eval_shape(optimizer.init, like))
    width, rest, at, leaves = like.shape[1], iter(scalars), 0, []
    for shape in shapes:
        leaves.append(rows[:, at : at + width] if shape.ndim else next(rest))
        at += width if shape.ndim else 0
    return jax.tree.unflatten(structure, leaves)


def merge_duplicates(rows: jax.Array, values: Any, scratch: jax.Array) -> tuple[jax.Array, Any, jax.Array]:
    """Sum the values of equal rows without sorting.

    Each position is written into the scratch vector under its row; read back, all occurrences of a row name the same position.

    Args:
      rows: [R]; values: tree of arrays [R, ...]; scratch: any content, [items].

    Returns:
      rows with duplicates moved out of the table's range, [R]; values [R, ...], summed where the row stayed; the scratch vector.
    """
    position = jnp.arange(len(rows), dtype=scratch.dtype)
    scratch = scratch.at[rows].set(position, mode="drop")
    # Rows outside the table are no one's duplicates: a clamped read would name some other row's position.
    first = scratch.at[rows].get(mode="fill", fill_value=len(rows))
    outside = jnp.asarray(len(rows), first.dtype)
    # Only later occurrences are added to the first one; a row that occurs once costs nothing.
    onto = jnp.where(first == position, outside, first)
    summed = jax.tree.map(lambda value: value.at[onto].add(value, mode="drop"), values)
    return jnp.where(first == position, rows, len(scratch)), summed, scratch
