"""Scorers of the recommender: one model for all users, or each user's own, with or without the history prior.

Dimensions: rows x T steps and P predictions of a block, dim of item rows.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.blocks import SessionBlock
from jaxrec.data.own_history import filled_up, own_items
from jaxrec.evaluation.scorer import Scorer
from jaxrec.models.history import with_bonus
from jaxrec.models.recommender import Model, Params

ROWS_AT_ONCE = 64
"""Rows whose personal parameters are gathered at a time."""


@dataclasses.dataclass(frozen=True)
class GlobalScorer:
    """The recommender with the same parameters for every user.

    Attributes:
      scored: item rows that user vectors are scored against, where they are not those of `params`.
    """

    model: Model
    params: Params
    scored: jax.Array | None = None

    def encode(self, block: SessionBlock) -> jax.Array:
        return _at_predictions(_encode(self.model, self.params, block.items[:, :-1]), block)

    def scores(self, encoded: jax.Array, start: int, stop: int) -> jax.Array:
        return score_items(self.params, self.scored, encoded, start, stop)


@dataclasses.dataclass(frozen=True)
class PersonalScorer:
    """The recommender with each user's own parameters.

    Attributes:
      shared: parts that all users share.
      personal: stacked personal parts, [slots, ...].
      slots: slot of each user index, [users]; a row without a user takes slot 0, where the global parameters stand.
      scored: item rows that user vectors are scored against, where they are not those of `shared`.
    """

    model: Model
    shared: Params
    personal: Params
    slots: np.ndarray
    scored: jax.Array | None = None

    def encode(self, block: SessionBlock) -> jax.Array:
        slots = np.where(block.users < 0, 0, self.slots[block.users])
        return _at_predictions(_encode_personal(self.model, self.shared, self.personal, slots, block.items[:, :-1]), block)

    def scores(self, encoded: jax.Array, start: int, stop: int) -> jax.Array:
        return score_items(self.shared, self.scored, encoded, start, stop)


def stack_users(model: Model, shared: Params, start: Params, found: Sequence[tuple[np.ndarray, Params]], n_users: int) -> PersonalScorer:
    """Users' own models by chunk: (users [U], personal parts [U, ...]); everyone else has `start`."""
    stack = jax.tree.map(
        lambda first, *rest: jnp.asarray(np.concatenate([np.asarray(first)[None], *rest])), start, *(own for _, own in found)
    )
    users = np.concatenate([np.zeros(0, np.int64), *(users for users, _ in found)]).astype(np.int64)
    slots = np.zeros(n_users, np.int32)
    slots[users] = 1 + np.arange(len(users))
    return PersonalScorer(model, shared, stack, slots)


@dataclasses.dataclass(frozen=True)
class WithHistory:
    """Any scorer plus the history prior.

    Attributes:
      weights: one for each of `jaxrec.data.own_history.FEATURES`.
      popular: `jaxrec.data.own_history.popularity` of all items, [items].
    """

    base: Scorer
    weights: Sequence[float]
    popular: np.ndarray

    def encode(self, block: SessionBlock) -> Any:
        own = filled_up(own_items(block, self.popular))
        return self.base.encode(block), own.prediction, own.items, own.features @ np.asarray(self.weights, np.float32)

    def scores(self, encoded: Any, start: int, stop: int) -> jax.Array:
        inner, *own = encoded
        return _with_bonus(jnp.asarray(self.base.scores(inner, start, stop)), *own, start)


def score_items(shared: Params, scored: jax.Array | None, vectors: jax.Array, start: int, stop: int) -> jax.Array:
    """Scores of items start:stop, [P, stop - start] float32, of products at the rows' precision.

    Args:
      shared: with item_table [items, dim], on one device or spread over a mesh, and item_bias [items].
      scored: rows instead of item_table.
      vectors: user vectors, [P, dim].
    """
    table = shared["item_table"] if scored is None else scored
    spread = isinstance(table, jax.Array) and not table.is_fully_replicated
    return _scores(table, shared["item_bias"], vectors, start, stop - start, spread)


def _encode_row(model: Model, params: Params, items: jax.Array) -> jax.Array:
    reset = jnp.arange(len(items)) == 0
    return model.encode(params, params[model.input_table][items], model.zero_hidden(), reset)[0]


@partial(jax.jit, static_argnums=0)
def _encode(model: Model, params: Params, items: jax.Array) -> jax.Array:
    """User vectors after each step, row after row, [rows * T, dim]."""
    return jax.lax.collapse(jax.vmap(partial(_encode_row, model, params))(items), 0, 2)


@partial(jax.jit, static_argnums=0)
def _encode_personal(model: Model, shared: Params, personal: Params, slots: jax.Array, items: jax.Array) -> jax.Array:
    def row(now):
        slot, items = now
        return _encode_row(model, {**shared, **jax.tree.map(lambda leaf: leaf[slot], personal)}, items)

    return jax.lax.collapse(jax.lax.map(row, (slots, items), batch_size=min(ROWS_AT_ONCE, len(slots))), 0, 2)


def _at_predictions(vectors: jax.Array, block: SessionBlock) -> jax.Array:
    """User vectors at each prediction, [P, dim], of those after each step; apart from encoding, which is compiled anew for each T."""
    row, step = block.predictions()
    return _rows(vectors, row * block.mask.shape[1] + step)


@jax.jit
def _rows(vectors: jax.Array, numbers: jax.Array) -> jax.Array:
    return vectors[numbers]


@partial(jax.jit, static_argnums=(4, 5))
def _scores(table: jax.Array, bias: jax.Array, vectors: jax.Array, start: int, width: int, spread: bool) -> jax.Array:
    rows, bias = _part(table, start, width, spread), _part(bias, start, width, spread)
    return jnp.matmul(vectors.astype(rows.dtype), rows.T, preferred_element_type=jnp.float32) + bias[None]


def _part(rows: jax.Array, start: int, width: int, spread: bool) -> jax.Array:
    if width == len(rows):
        return rows
    if spread:  # by their numbers: a slice would bring the whole table to every device
        return rows.at[start + jnp.arange(width)].get(mode="clip")
    return jax.lax.dynamic_slice_in_dim(rows, start, width)


_with_bonus = jax.jit(with_bonus)
