"""Optimizers as optax transformations without the learning rate, applied to whole parameters, to table rows, or under a freeze mask.

The rate is an argument of the step, so that one compiled program serves a grid of rates and the device can choose its own.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


def adagrad(momentum: float) -> optax.GradientTransformation:
    """GRU4Rec's Adagrad: accumulator from zero, so the first step is as long as the rate; classical momentum on the scaled step."""
    scaled = optax.scale_by_rss(initial_accumulator_value=0.0, eps=1e-6)
    return optax.chain(scaled, optax.trace(momentum)) if momentum else scaled


OPTIMIZERS = {
    "adagrad": adagrad,
    "adam": lambda momentum: optax.scale_by_adam(b1=momentum or 0.9),
    "sgd": lambda momentum: optax.trace(momentum) if momentum else optax.identity(),
}


def frozen_outside(optimizer: optax.GradientTransformation, mask: Any) -> optax.GradientTransformation:
    """The optimizer where `mask` is True; elsewhere parameters stay bit-identical."""
    labels = jax.tree.map(lambda trained: "trained" if trained else "frozen", mask)
    return optax.multi_transform({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def apply(params: Any, updates: Any, learning_rate: jax.Array, weight_decay: float = 0.0) -> Any:
    """Parameters moved against the updates and, decoupled from them, towards zero (Loshchilov and Hutter 2019)."""
    if weight_decay:
        updates = jax.tree.map(lambda update, p: update + weight_decay * p, updates, params)
    return jax.tree.map(lambda p, update: p - learning_rate * update, params, updates)


def clip_scale(longest: float, *gradients: Any) -> jax.Array:
    """What brings all gradients together down to a norm of `longest`, at most 1 (Pascanu et al. 2013)."""
    return jnp.minimum(1.0, longest / jnp.maximum(optax.tree.norm(gradients), 1e-12))


SCHEDULES = ("constant", "linear", "cosine")


def rate_at(schedule: str, warmup: int, update: jax.Array, updates: jax.Array) -> jax.Array:
    """Share of the learning rate at an update: linear rise over the first `warmup` ones, then by the schedule down to zero at the end.

    >>> [float(rate_at("linear", 2, jnp.int32(n), jnp.int32(10))) for n in (0, 1, 2, 6)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rise = jnp.minimum(1.0, (update + 1) / warmup) if warmup else jnp.float32(1.0)
    done = jnp.clip((update - warmup) / jnp.maximum(updates - warmup, 1), 0.0, 1.0)
    fall = {"constant": jnp.ones_like(done), "linear": 1 - done, "cosine": 0.5 * (1 + jnp.cos(jnp.pi * done))}[schedule]
    return rise * fall


class RowState(NamedTuple):
    """Optimizer state of a table, ready for reading and writing rows.

    Attributes:
      rows: everything the optimizer keeps per row side by side, [items, width]: one wide row is scattered faster than several.
      scalars: what it keeps once, such as a count of updates.
    """

    rows: jax.Array
    scalars: tuple[jax.Array, ...]


def init_rows(optimizer: optax.GradientTransformation, table: jax.Array) -> RowState:
    """State for `apply_rows`."""
    return _pack(optimizer.init(table), len(table))


def apply_rows(
    optimizer: optax.GradientTransformation,
    table: jax.Array,
    state: RowState,
    rows: jax.Array,
    gradients: jax.Array,
    learning_rate: jax.Array,
    weight_decay: float = 0.0,
) -> tuple[jax.Array, RowState]:
    """One optimizer step on the named rows of a table only; nothing else is read or written.

    Args:
      table: [items, ...].
      rows: distinct row numbers, [R]; numbers outside the table are left out.
      gradients: [R, ...].
      weight_decay: pull of a row that is updated towards zero, times the learning rate.
    """
    of_rows = _unpack(optimizer, state._replace(rows=state.rows[rows]), gradients)
    updates, of_rows = optimizer.update(gradients, of_rows)
    updates = updates + weight_decay * table[rows] if weight_decay else updates
    packed, scalars = _pack(of_rows, len(rows))
    return table.at[rows].add(-learning_rate * updates, mode="drop"), RowState(state.rows.at[rows].set(packed, mode="drop"), scalars)


def _pack(state: Any, rows: int) -> RowState:
    leaves = jax.tree.leaves(state)
    wide = [leaf.reshape(rows, -1) for leaf in leaves if leaf.ndim]
    return RowState(jnp.concatenate(wide, 1) if wide else jnp.zeros((rows, 0)), tuple(leaf for leaf in leaves if not leaf.ndim))


def _unpack(optimizer: optax.GradientTransformation, state: RowState, like: jax.Array) -> Any:
    """The optimizer's own state of rows shaped as `like`."""
    shapes, structure = jax.tree.flatten(jax.eval_shape(optimizer.init, like))
    width, scalars, at, leaves = like[0].size, iter(state.scalars), 0, []
    for shape in shapes:
        leaves.append(state.rows[:, at : at + width].reshape(like.shape) if shape.ndim else next(scalars))
        at += width if shape.ndim else 0
    return jax.tree.unflatten(structure, leaves)


def merge_duplicates(rows: jax.Array, gradients: jax.Array, scratch: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sum the gradients of equal rows without sorting.

    Each position is written into the scratch vector under its row; read back, all occurrences of a row name the same position.

    Args:
      rows: [R]; gradients: [R, ...]; scratch: any content, [items].

    Returns:
      rows with duplicates moved out of the table's range, [R]; gradients [R, ...], summed where the row stayed; the scratch vector.
    """
    position = jnp.arange(len(rows), dtype=scratch.dtype)
    scratch = scratch.at[rows].set(position)
    # Rows outside the table are no one's duplicates: a clamped read would name some other row's position.
    first = scratch.at[rows].get(mode="fill", fill_value=len(rows))
    outside = jnp.asarray(len(rows), first.dtype)
    # Only later occurrences are added to the first one; a row that occurs once costs nothing.
    summed = gradients.at[jnp.where(first == position, outside, first)].add(gradients, mode="drop")
    return jnp.where(first == position, rows, len(scratch)), summed, scratch
