"""Hundreds of updates in one compiled call, on one device or spread over a mesh.

Dimensions: lanes, T steps of a block (bptt_steps), n shared negatives.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxrec.data.blocks import Block
from jaxrec.learning.mesh import DATA, MODEL, sharding, size
from jaxrec.learning.negatives import Negatives, Sampler, draw_items
from jaxrec.learning.optimizers import rate_at
from jaxrec.learning.recipe import Recipe
from jaxrec.learning.spread import Spread, all_lanes, spread_over
from jaxrec.learning.step import Rule, State, init_state, step
from jaxrec.models.recommender import Model


class Carry(NamedTuple):
    """What one update hands to the next."""

    state: State
    hidden: tuple


class Span(NamedTuple):
    """Which updates are done at once: start:stop of an epoch, with `before` of earlier epochs, of `updates` that the schedule covers."""

    start: jax.Array | int
    stop: jax.Array | int
    before: jax.Array | int
    updates: jax.Array | int


def start(mesh: Mesh | None, model: Model, rule: Rule, lanes: int, key: jax.Array) -> Carry:
    """The carry before the first update; no device ever holds more of a table than its own rows."""

    def make(key: jax.Array) -> Carry:
        return Carry(init_state(rule, model.init(key), size(mesh, MODEL)), model.zero_hidden(lanes))

    layout = None if mesh is None else jax.tree.map(lambda axes: sharding(mesh, *axes), axes_of(jax.eval_shape(make, key)))
    return jax.jit(make, out_shardings=layout)(key)


def axes_of(carry: Carry) -> Carry:
    """Along which axis of a mesh the first dimension of each array of a carry lies."""
    state = jax.tree.map(lambda _: PartitionSpec(), carry.state)
    rows = PartitionSpec(MODEL)
    tables = {name: table._replace(rows=rows) for name, table in state.tables.items()}
    state = state._replace(tables=tables, scratch=None if state.scratch is None else rows)
    return Carry(state, tuple(PartitionSpec(DATA) for _ in carry.hidden))


@partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=5)
def run_updates(
    mesh: Mesh | None, model: Model, recipe: Recipe, rule: Rule, source: Sampler, carry: Carry, epoch: Block, key: jax.Array, now: Span
) -> tuple[Carry, jax.Array]:
    """Some updates of an epoch that lies on the devices; returns the carry and the summed loss over predictions.

    The random key of an update depends on `key` and its number only, and what is drawn not on the mesh.

    Args:
      epoch: arrays as from `plan_lanes`.
    """
    run = partial(_run_updates, spread_over(mesh), model, recipe, rule)
    if mesh is not None:
        everywhere, carried = PartitionSpec(), axes_of(carry)
        given = (everywhere, carried, PartitionSpec(None, DATA), everywhere, everywhere)
        run = jax.shard_map(run, mesh=mesh, in_specs=given, out_specs=(carried, everywhere), check_vma=False)
    return run(source, carry, epoch, key, now)


def _run_updates(
    spread: Spread, model: Model, recipe: Recipe, rule: Rule, source: Sampler, carry: Carry, epoch: Block, key: jax.Array, now: Span
) -> tuple[Carry, jax.Array]:
    optimizer, n_sample = recipe.optimizer, recipe.loss.n_sample if rule.by_rows else 0

    def update(number, done):
        carry, total = done
        block = all_lanes(spread, Block(*(part[number] for part in epoch)))
        negative_key, dropout_key = jax.random.split(jax.random.fold_in(key, number))
        items = draw_items(source, negative_key, n_sample)
        negatives = Negatives(items, source.drawn_offset[items], source.column_offset[block.items[:, 1:]])
        dropout = draw_dropout(dropout_key, recipe.run.dropout_p_embed, recipe.run.dropout_p_hidden, model, block.mask.shape)
        rate = optimizer.learning_rate * rate_at(recipe.schedule, optimizer.warmup_updates, now.before + number, now.updates)
        *carry, loss = step(model, rule, {}, carry.state, block, carry.hidden, negatives, rate, dropout, spread)
        return Carry(*carry), total + loss * rule.scale

    return jax.lax.fori_loop(now.start, now.stop, update, (carry, jnp.float32(0)))


@jax.jit
def all_finite(tree: Any) -> jax.Array:
    """Whether every number of a tree is one, []."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def draw_dropout(key: jax.Array, p_embed: float, p_hidden: float, model: Model, shape: tuple[int, int]) -> tuple:
    """Dropout multipliers for a block of shape [lanes, T]: of the item rows, and of each layer's output."""
    embed_key, *keys = jax.random.split(key, 1 + len(model.options.units))

    def multipliers(key, p, width):
        return None if p == 0 or width == 0 else jax.random.bernoulli(key, 1 - p, (*shape, width)) / jnp.float32(1 - p)

    hidden = [multipliers(key, p_hidden, units) for key, units in zip(keys, model.options.units, strict=True)]
    return multipliers(embed_key, p_embed, model.embedding_dropout), None if hidden[0] is None else tuple(hidden)
