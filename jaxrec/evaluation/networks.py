"""Scorers of the recommender: one model for all users, or each user's own, with or without the history prior.

Dimensions: rows x T steps of a block, dim of item rows, K distinct items of a history.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.blocks import SessionBlock
from jaxrec.evaluation.scorer import Scorer
from jaxrec.models.history import history_bonus
from jaxrec.models.recommender import Model, Params

ROWS_AT_ONCE = 64
"""Rows whose personal parameters are gathered at a time."""


@dataclasses.dataclass(frozen=True)
class GlobalScorer:
    """The recommender with the same parameters for every user."""

    model: Model
    params: Params

    def encode(self, block: SessionBlock) -> jax.Array:
        return _encode(self.model, self.params, block.items[:, :-1])

    def scores(self, encoded: jax.Array, start: int, stop: int) -> jax.Array:
        return _scores(self.params["item_table"], self.params["item_bias"], encoded, start, stop - start)


@dataclasses.dataclass(frozen=True)
class PersonalScorer:
    """The recommender with each user's own parameters.

    Attributes:
      shared: parts that all users share.
      personal: stacked personal parts, [slots, ...].
      slots: slot of each user index, [users]; a row without a user takes slot 0, where the global parameters stand.
    """

    model: Model
    shared: Params
    personal: Params
    slots: np.ndarray

    def encode(self, block: SessionBlock) -> jax.Array:
        slots = np.where(block.users < 0, 0, self.slots[block.users])
        return _encode_personal(self.model, self.shared, self.personal, slots, block.items[:, :-1])

    def scores(self, encoded: jax.Array, start: int, stop: int) -> jax.Array:
        return _scores(self.shared["item_table"], self.shared["item_bias"], encoded, start, stop - start)


@dataclasses.dataclass(frozen=True)
class WithHistory:
    """Any scorer plus the history prior."""

    base: Scorer
    weight: float

    def encode(self, block: SessionBlock) -> Any:
        return self.base.encode(block), block

    def scores(self, encoded: Any, start: int, stop: int) -> jax.Array:
        inner, block = encoded
        counts = own_counts(block.items[:, :-1], block.mask, block.history_items, block.history_counts, start, stop - start)
        return self.base.scores(inner, start, stop) + history_bonus(self.weight, counts)


def _encode_row(model: Model, params: Params, items: jax.Array) -> jax.Array:
    reset = jnp.arange(len(items)) == 0
    return model.encode(params, params[model.input_table][items], model.zero_hidden(), reset)[0]


@partial(jax.jit, static_argnums=0)
def _encode(model: Model, params: Params, items: jax.Array) -> jax.Array:
    """User vectors after each step, [rows, T, dim]."""
    return jax.vmap(partial(_encode_row, model, params))(items)


@partial(jax.jit, static_argnums=0)
def _encode_personal(model: Model, shared: Params, personal: Params, slots: jax.Array, items: jax.Array) -> jax.Array:
    def row(now):
        slot, items = now
        return _encode_row(model, {**shared, **jax.tree.map(lambda leaf: leaf[slot], personal)}, items)

    return jax.lax.map(row, (slots, items), batch_size=min(ROWS_AT_ONCE, len(slots)))


@partial(jax.jit, static_argnums=4)
def _scores(table: jax.Array, bias: jax.Array, vectors: jax.Array, start: int, width: int) -> jax.Array:
    rows = jax.lax.dynamic_slice_in_dim(table, start, width)
    return vectors @ rows.T + jax.lax.dynamic_slice_in_dim(bias, start, width)[None, None]


@partial(jax.jit, static_argnums=5)
def own_counts(items: jax.Array, mask: jax.Array, history_items: jax.Array, history_counts: jax.Array, start: int, width: int) -> jax.Array:
    """Own clicks on items start:start + width up to and including each step, earlier sessions and this one, [rows, T, width].

    Args:
      items, mask: events read at each step and whether the step counts, [rows, T].
      history_items, history_counts: distinct items of earlier sessions (-1 where padded) and clicks on them, [rows, K].
    """

    def row(items, mask, history_items, history_counts):
        place = jnp.where((history_items >= start) & (history_items < start + width), history_items - start, width)
        earlier = jnp.zeros(width).at[place].add(history_counts, mode="drop")
        now = (items[:, None] == start + jnp.arange(width)[None]) & mask[:, None]
        return earlier[None] + jnp.cumsum(now, 0)

    return jax.vmap(row)(items, mask, history_items, history_counts)
