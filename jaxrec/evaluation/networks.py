"""Scorers of the recommender: one model for all users, or each user's own, with or without the history prior.

Dimensions: rows x T steps and P predictions of a block, dim of item rows, K distinct items of a history.
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
        return score_items(
            self.params["item_table"] if self.scored is None else self.scored, self.params["item_bias"], encoded, start, stop
        )


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
        return score_items(
            self.shared["item_table"] if self.scored is None else self.scored, self.shared["item_bias"], encoded, start, stop
        )


@dataclasses.dataclass(frozen=True)
class WithHistory:
    """Any scorer plus the history prior."""

    base: Scorer
    weight: float

    def encode(self, block: SessionBlock) -> Any:
        return self.base.encode(block), block

    def scores(self, encoded: Any, start: int, stop: int) -> jax.Array:
        inner, block = encoded
        return _with_bonus(jnp.asarray(self.base.scores(inner, start, stop)), self.weight, own_counts(block, start, stop))


def in_bfloat16(scorer: Scorer) -> Scorer:
    """The scorer with products of bfloat16 rows and vectors, summed in float32; one without a network comes back as it is."""
    if isinstance(scorer, WithHistory):
        return dataclasses.replace(scorer, base=in_bfloat16(scorer.base))
    if isinstance(scorer, GlobalScorer):
        return dataclasses.replace(scorer, scored=jnp.asarray(scorer.params["item_table"], jnp.bfloat16))
    if isinstance(scorer, PersonalScorer):
        return dataclasses.replace(scorer, scored=jnp.asarray(scorer.shared["item_table"], jnp.bfloat16))
    return scorer


def score_items(table: jax.Array, bias: jax.Array, vectors: jax.Array, start: int, stop: int) -> jax.Array:
    """Scores of items start:stop, [P, stop - start] float32, of products at the table's precision.

    Args:
      table, bias: item rows [items, dim] and what is added to each score [items]; on one device, or the rows spread over a mesh.
      vectors: user vectors, [P, dim].
    """
    spread = isinstance(table, jax.Array) and not table.is_fully_replicated
    return _scores(table, bias, vectors, start, stop - start, spread)


def own_counts(block: SessionBlock, start: int, stop: int) -> jax.Array:
    """Own clicks on items start:stop by the time of each prediction, earlier sessions and this one, [P, stop - start]."""
    history = block.history_items, block.history_counts
    return _own_counts(block.items[:, :-1], block.mask, *history, *block.predictions(), start, stop - start)


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


@jax.jit
def _with_bonus(scores: jax.Array, weight: float, counts: jax.Array) -> jax.Array:
    return scores + history_bonus(weight, counts)


@partial(jax.jit, static_argnums=7)
def _own_counts(
    items: jax.Array,
    mask: jax.Array,
    history_items: jax.Array,
    history_counts: jax.Array,
    row: jax.Array,
    step: jax.Array,
    start: int,
    width: int,
) -> jax.Array:
    def count(items, mask, history_items, history_counts):
        place = jnp.where((history_items >= start) & (history_items < start + width), history_items - start, width)
        earlier = jnp.zeros(width).at[place].add(history_counts, mode="drop")
        now = (items[:, None] == start + jnp.arange(width)[None]) & mask[:, None]
        return earlier[None] + jnp.cumsum(now, 0)

    return jax.vmap(count)(items, mask, history_items, history_counts)[row, step]
