"""The one training step: global training, fine-tuning, personalisation and the device's `train` signature are all this function.

Dimensions: rows (lanes, or sessions of one user), T steps of a block, dim of item rows, n shared negatives.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrec.data.blocks import Block
from jaxrec.learning.full_softmax import log_sum_exp
from jaxrec.learning.losses import FULL, loss_of
from jaxrec.learning.negatives import Negatives
from jaxrec.learning.optimizers import OPTIMIZERS, apply, apply_rows, clip_scale, init_rows, merge_duplicates
from jaxrec.models.recommender import TABLES, Model, Params


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a step learns.

    Attributes:
      loss: a name of `LOSSES`.
      bpreg, elu_param: of bpr-max.
      optimizer: a name of `OPTIMIZERS`.
      momentum: of the optimizer.
      weight_decay: pull of what is updated towards zero, times the learning rate.
      clip_norm: longest gradient of an update; 0: any.
      in_batch: whether the targets of other rows at the same step are negatives too.
      scale: the summed loss of a block is divided by this; None: by the number of its predictions.
    """

    loss: str = "cross-entropy"
    bpreg: float = 1.0
    elu_param: float = 0.5
    optimizer: str = "adagrad"
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    in_batch: bool = True
    scale: int | None = None

    @property
    def by_rows(self) -> bool:
        """Whether an update touches only the table rows it uses: the softmax over all items touches all."""
        return self.loss != FULL

    @property
    def transformation(self) -> optax.GradientTransformation:
        return OPTIMIZERS[self.optimizer](self.momentum)


def init_optimizer(rule: Rule, trained: Params) -> dict[str, Any]:
    """Optimizer state of the trained parts; tables have their own, with scratch space for merging duplicates."""
    by_rows = tables_of(rule, trained)
    tables = {name: init_rows(rule.transformation, trained[name]) for name in by_rows}
    dense = {name: part for name, part in trained.items() if name not in by_rows}
    scratch = {"scratch": jnp.zeros(len(trained["item_table"]), jnp.int32)} if tables else {}
    return {"dense": rule.transformation.init(dense), "tables": tables, **scratch}


def tables_of(rule: Rule, trained: Params) -> list[str]:
    """Trained parts that are updated by rows."""
    return [name for name in trained if name in TABLES and rule.by_rows]


def block_loss(
    model: Model,
    rule: Rule,
    params: Params,
    rows: Mapping[str, jax.Array],
    block: Block,
    hidden: tuple,
    negatives: Negatives,
    dropout=(None, None),
) -> tuple[jax.Array, tuple]:
    """Loss of a block.

    Args:
      params: all parts; tables are read where the softmax is over all items.
      rows: table rows in use: inputs [rows, T, dim], targets [rows, T, dim], target_bias [rows, T], negatives [n, dim], negative_bias [n].
      hidden: state of each layer before the block, [rows, units] each.
      dropout: multipliers (of inputs [rows, T, dim], of each layer's outputs), each may be None.

    Returns:
      the scalar loss and the states after the block, detached.
    """
    embed, keep = dropout
    inputs = rows["inputs"] if embed is None else rows["inputs"] * embed
    vectors, after = jax.vmap(lambda *row: model.encode(params, *row))(inputs, hidden, block.reset, keep)
    if rule.loss == FULL:
        target = (vectors * rows["targets"]).sum(-1) + rows["target_bias"]
        losses = (
            log_sum_exp(vectors.reshape(-1, vectors.shape[-1]), params["item_table"], params["item_bias"]).reshape(target.shape) - target
        )
    else:
        score = _against_batch if rule.in_batch else _against_negatives
        target, others, counts = score(rows, vectors, rows["target_bias"] + negatives.target_offset, negatives.offset, block.mask)
        losses = loss_of(rule.loss, rule.bpreg, rule.elu_param)(target, others, counts)
    scale = block.mask.sum().clip(1) if rule.scale is None else rule.scale
    return jnp.where(block.mask, losses, 0.0).sum() / scale, jax.lax.stop_gradient(after)


Scores = tuple[jax.Array, jax.Array, jax.Array]
"""Scores of the targets [rows, T], of C columns [rows, T, C], and which columns count."""


def _against_negatives(rows: Mapping, vectors: jax.Array, target_bias: jax.Array, offset: jax.Array, mask: jax.Array) -> Scores:
    """The negatives are the columns, and all count."""
    others = vectors @ rows["negatives"].T + (rows["negative_bias"] + offset)[None, None]
    return (vectors * rows["targets"]).sum(-1) + target_bias, others, jnp.ones_like(others, bool)


def _against_batch(rows: Mapping, vectors: jax.Array, target_bias: jax.Array, offset: jax.Array, mask: jax.Array) -> Scores:
    """The targets of all rows at the same step and the negatives are the columns; live targets of other rows count."""

    def at_step(vectors, targets, target_bias, mask):
        # One product for all columns: two of them, joined afterwards, cost a fifth of a step more.
        columns = jnp.concatenate([targets, rows["negatives"]])
        others = vectors @ columns.T + jnp.concatenate([target_bias, rows["negative_bias"] + offset])[None]
        live = jnp.concatenate([mask, jnp.ones(len(rows["negatives"]), bool)])
        return jnp.diagonal(others), others, live[None] & ~jnp.eye(*others.shape, dtype=bool)

    place = (vectors, rows["targets"], target_bias, mask)
    if mask.shape[1] > 1:
        return jax.vmap(at_step, 1, 1)(*place)
    # A batch of one product is slower on CPUs than the product.
    return tuple(found[:, None] for found in at_step(*(part[:, 0] for part in place)))


def step(
    model: Model,
    rule: Rule,
    frozen: Params,
    trained: Params,
    optimizer_state: dict[str, Any],
    block: Block,
    hidden: tuple,
    negatives: Negatives,
    learning_rate: jax.Array,
    dropout: tuple = (None, None),
) -> tuple[dict, dict[str, Any], tuple, jax.Array]:
    """One update.

    Args:
      frozen, trained: the parts of the parameters, disjoint; tables among the trained are updated by rows.
      optimizer_state: from `init_optimizer`.
      hidden: state of each layer before the block, [rows, units] each.

    Returns:
      trained parts, optimizer state, states after the block, loss.
    """
    params = {**frozen, **trained}
    used = used_rows(model, block, negatives)
    by_rows = tables_of(rule, trained)
    dense = {name: part for name, part in trained.items() if name not in by_rows}
    moving = {place: params[table][items] for place, (table, items) in used.items() if table in by_rows}

    def objective(dense, moving):
        now = {**params, **dense}
        still = {place: now[table][items] for place, (table, items) in used.items() if place not in moving}
        return block_loss(model, rule, now, still | moving, block, hidden, negatives, dropout)

    (loss, after), (dense_gradient, row_gradients) = jax.value_and_grad(objective, (0, 1), has_aux=True)(dense, moving)
    used = {place: (table, _live(items, block.mask, model.n_items)) for place, (table, items) in used.items()}
    merged, scratch = _merge(trained, optimizer_state, used, row_gradients)
    if rule.clip_norm:
        scale = clip_scale(
            rule.clip_norm,
            dense_gradient,
            [jnp.where((items < model.n_items)[:, None], wide[:, :-1], 0.0) for items, wide in merged.values()],
        )
        dense_gradient = jax.tree.map(lambda gradient: gradient * scale, dense_gradient)
        merged = {table: (items, wide * scale) for table, (items, wide) in merged.items()}
    updates, dense_state = rule.transformation.update(dense_gradient, optimizer_state["dense"])
    new = apply(dense, updates, learning_rate, rule.weight_decay)
    tables, table_states = _update_tables(rule, trained, optimizer_state["tables"], merged, learning_rate)
    return {**new, **tables}, {"dense": dense_state, "tables": table_states, **scratch}, after, loss


def used_rows(model: Model, block: Block, negatives: Negatives) -> dict[str, tuple[str, jax.Array]]:
    """Which rows of which table stand where in `block_loss`."""
    inputs, targets = block.items[:, :-1], block.items[:, 1:]
    return {
        "inputs": (model.input_table, inputs),
        "targets": ("item_table", targets),
        "negatives": ("item_table", negatives.items),
        "target_bias": ("item_bias", targets),
        "negative_bias": ("item_bias", negatives.items),
    }


def _live(items: jax.Array, mask: jax.Array, n_items: int) -> jax.Array:
    """Items of padded steps moved out of the table's range: momentum must not move a row that was not used."""
    return jnp.where(mask, items, n_items) if items.shape == mask.shape else items


BIAS_OF = {"targets": "target_bias", "negatives": "negative_bias"}
"""Places whose rows are scored, and the place of their biases."""


Merged = dict[str, tuple[jax.Array, jax.Array]]
"""By table: distinct items [R], out of range where nothing moves, and what belongs to them [R, dim + 2], as `_with_bias` lays it out."""


def _merge(trained: Params, state: dict[str, Any], used: Mapping, gradients: Mapping) -> tuple[Merged, dict[str, jax.Array]]:
    """Summed gradients of the rows that were used, each row once, and the scratch space.

    Item rows and their biases are merged together, because merging costs as much for one number as for a row.
    """
    merged, scratch = {}, state.get("scratch")
    for table in sorted({used[place][0] for place in gradients} - {"item_bias"}):
        places = [place for place in gradients if used[place][0] == table]
        items = jnp.concatenate([used[place][1].reshape(-1) for place in places])
        wide = jnp.concatenate([_with_bias(place, gradients, trained[table].shape[1]) for place in places])
        *merged[table], scratch = merge_duplicates(items, wide, scratch)
    return merged, {} if scratch is None else {"scratch": scratch}


def _update_tables(rule: Rule, trained: Params, states: Mapping, merged: Merged, rate: jax.Array) -> tuple[dict, dict[str, Any]]:
    """Each trained table moved by its merged gradients."""
    tables, after = {}, dict(states)
    for table, (items, wide) in merged.items():
        moves = [(table, items, wide[:, :-2])]
        if table == "item_table":
            # Momentum must not move the bias of a row that was only read as an input.
            moves.append(("item_bias", jnp.where(wide[:, -1] > 0, items, len(trained[table])), wide[:, -2]))
        for name, rows, gradients in moves:
            moved = apply_rows(rule.transformation, trained[name], states[name], rows, gradients, rate, rule.weight_decay)
            tables[name], after[name] = moved
    return tables, after


def _with_bias(place: str, gradients: Mapping, dim: int) -> jax.Array:
    """Gradients of the rows at a place, of their biases, and 1 where the row was scored, [rows used, dim + 2]."""
    rows = gradients[place].reshape(-1, dim)
    if place not in BIAS_OF:
        return jnp.pad(rows, ((0, 0), (0, 2)))
    bias = gradients[BIAS_OF[place]].reshape(-1, 1)
    return jnp.concatenate([rows, bias, jnp.ones_like(bias)], 1)
