"""The one training step: global training, fine-tuning, personalisation and the device's `train` signature are all this function.

Dimensions: rows (lanes, or sessions of one user), T steps of a block, dim of item rows, n shared negatives.
"""

import dataclasses
import math
import types
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrec.data.blocks import Block
from jaxrec.learning.full_softmax import log_sum_exp
from jaxrec.learning.losses import FULL, loss_of
from jaxrec.learning.negatives import Negatives
from jaxrec.learning.optimizers import OPTIMIZERS, apply, clip_scale, squares
from jaxrec.learning.spread import ALONE, Spread, first_lane, own_lanes, own_rows, sum_over_lanes, sum_over_tables
from jaxrec.learning.tables import Table, merge_duplicates, move, pack, read, weights_of
from jaxrec.models.recommender import TABLES, Model, Params


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a step learns.

    Attributes:
      loss: a name of `LOSSES`, or `FULL`.
      bpreg, elu_param: of bpr-max.
      optimizer: a name of `OPTIMIZERS`.
      momentum: of the optimizer.
      weight_decay: pull of what is updated towards zero, times the learning rate.
      anchor: pull of the dense parts towards their origin, times the learning rate.
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
    anchor: float = 0.0
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


class State(NamedTuple):
    """What an update moves.

    Attributes:
      dense: trained parts that are moved as a whole.
      optimizer: the optimizer's state of the dense parts.
      tables: trained parts that are moved by rows.
      scratch: any content; space for merging duplicates, [items] int32; None without such parts.
    """

    dense: Params
    optimizer: Any
    tables: dict[str, Table]
    scratch: jax.Array | None = None


def init_state(rule: Rule, trained: Params, shards: int = 1) -> State:
    """State before the first update of the trained parts; tables get a number of rows that `shards` divides."""
    optimizer, by_rows = rule.transformation, [name for name in trained if name in TABLES and rule.by_rows]
    dense = {name: part for name, part in trained.items() if name not in by_rows}
    rows = -(-len(trained["item_table"]) // shards) * shards if by_rows else 0
    tables = {name: pack(optimizer, trained[name], rows) for name in by_rows}
    return State(dense, optimizer.init(dense), tables, jnp.zeros(rows, jnp.int32) if by_rows else None)


def trained_parts(model: Model, state: State) -> Params:
    """The trained parts as they are now; tables with all their rows, of which the first are the items'."""
    return {**state.dense, **{name: weights_of(table, model.row_shapes[name]) for name, table in state.tables.items()}}


def block_loss(
    model: Model,
    rule: Rule,
    params: Params,
    rows: Mapping[str, jax.Array],
    block: Block,
    hidden: tuple,
    negatives: Negatives,
    dropout: tuple = (None, None),
    spread: Spread = ALONE,
) -> tuple[jax.Array, tuple]:
    """Loss of a block, or of this device's lanes of it where lanes are spread over devices; arguments as in `block_losses`.

    Returns:
      the scalar loss and the states after the block, detached.
    """
    losses, after = block_losses(model, rule, params, rows, block, hidden, negatives, dropout, spread)
    scale = block.mask.sum().clip(1) if rule.scale is None else rule.scale
    return losses.sum() / scale, after


def block_losses(
    model: Model,
    rule: Rule,
    params: Params,
    rows: Mapping[str, jax.Array],
    block: Block,
    hidden: tuple,
    negatives: Negatives,
    dropout: tuple = (None, None),
    spread: Spread = ALONE,
) -> tuple[jax.Array, tuple]:
    """Loss of every prediction of a block, or of this device's lanes of it where lanes are spread over devices.

    Args:
      params: all parts; tables are read where the softmax is over all items.
      rows: table rows in use: inputs [rows, T, dim], targets [rows, T, dim], target_bias [rows, T], negatives [n, dim], negative_bias [n].
      hidden: state of each layer before the block, [rows, units] each; of this device's lanes.
      dropout: multipliers (of inputs [rows, T, dim], of each layer's outputs), each may be None.

    Returns:
      losses [rows, T], 0 where nothing is predicted, and the states after the block, detached.
    """
    # Step by step from here on, as the layers run: steps that change places on the way cost as much as a product.
    targets, target_bias, target_offset, mask = _by_step((rows["targets"], rows["target_bias"], negatives.target_offset, block.mask))
    own = partial(own_lanes, spread, lanes=len(hidden[0]))
    inputs, reset, (embed, keep) = jax.tree.map(own, _by_step((rows["inputs"], block.reset, dropout)))
    inputs = inputs if embed is None else inputs * embed
    vectors, after = model.encode(params, inputs, hidden, reset, keep)
    if rule.loss == FULL:
        target = (vectors * own(targets)).sum(-1) + own(target_bias)
        total = log_sum_exp(vectors.reshape(-1, vectors.shape[-1]), params["item_table"], params["item_bias"])
        losses = total.reshape(target.shape) - target
    else:
        target_bias = target_bias + target_offset
        target = (vectors * own(targets)).sum(-1) + own(target_bias)
        if rule.in_batch:
            of_all = targets, target_bias, mask
            others, counts = _against_batch(rows, negatives.offset, vectors, of_all, first_lane(spread, len(hidden[0])))
        else:
            others = vectors @ rows["negatives"].T + (rows["negative_bias"] + negatives.offset)[None, None]
            counts = jnp.ones_like(others, bool)
        losses = loss_of(rule.loss, rule.bpreg, rule.elu_param)(target, others, counts)
    return _by_step(jnp.where(own(mask), losses, 0.0)), jax.lax.stop_gradient(after)


def _by_step(tree: Any) -> Any:
    """[rows, T, ...] -> [T, rows, ...], and back."""
    return jax.tree.map(lambda part: jnp.swapaxes(part, 0, 1), tree)


def _against_batch(
    rows: Mapping, offset: jax.Array, vectors: jax.Array, targets: tuple[jax.Array, ...], first: jax.Array | int
) -> tuple[jax.Array, jax.Array]:
    """Scores of the targets of all rows at the same step and of the negatives, [T, rows, C], and which columns count.

    Live targets of other rows count.

    Args:
      vectors: of rows `first` and after, [T, rows, dim].
      targets: of all rows, their biases and whether they are live, [T, all rows, ...] each.
    """
    own = first + jnp.arange(vectors.shape[1])

    def at_step(vectors, targets, target_bias, mask):
        # One product for all columns: two of them, joined afterwards, cost a fifth of a step more.
        columns = jnp.concatenate([targets, rows["negatives"]])
        others = vectors @ columns.T + jnp.concatenate([target_bias, rows["negative_bias"] + offset])[None]
        live = jnp.concatenate([mask, jnp.ones(len(rows["negatives"]), bool)])
        return others, live[None] & (jnp.arange(len(live))[None] != own[:, None])

    if len(vectors) > 1:
        return jax.vmap(at_step)(vectors, *targets)
    # A batch of one product is slower on CPUs than the product.
    return tuple(found[None] for found in at_step(vectors[0], *(part[0] for part in targets)))


def step(
    model: Model,
    rule: Rule,
    frozen: Params,
    state: State,
    block: Block,
    hidden: tuple,
    negatives: Negatives,
    learning_rate: jax.Array,
    dropout: tuple = (None, None),
    spread: Spread = ALONE,
    origin: Params | None = None,
) -> tuple[State, tuple, jax.Array]:
    """One update.

    Args:
      frozen: the parts of the parameters that the state does not train.
      block, negatives: of all lanes, also where they are spread over devices.
      hidden: state of each layer before the block, of this device's lanes, [rows, units] each.
      dropout: as in `block_loss`, of all lanes.
      origin: dense parts that the rule's anchor pulls to.

    Returns:
      state, states of the layers after the block, loss.
    """
    optimizer, used = rule.transformation, used_rows(model, block, negatives)
    found = {name: _read(spread, model.row_shapes[name], table, used[name]) for name, table in state.tables.items()}

    def objective(dense, weights):
        params = {**frozen, **dense}
        return block_loss(model, rule, params, rows_of(params, used, weights), block, hidden, negatives, dropout, spread)

    weights = {place: part for parts, _ in found.values() for place, part in parts.items()}
    (loss, after), gradients = jax.value_and_grad(objective, (0, 1), has_aux=True)(state.dense, weights)
    loss, (dense_gradient, row_gradients) = sum_over_lanes(spread, (loss, gradients))
    merged, scratch = _merge(spread, state, used, row_gradients, block.mask)
    if rule.clip_norm:
        rows = [jnp.where((numbers < len(state.scratch))[:, None], gradients, 0.0) for numbers, gradients in merged.values()]
        length = jnp.sqrt(squares(dense_gradient) + sum_over_tables(spread, squares(rows)))
        scale = clip_scale(rule.clip_norm, length)
        dense_gradient = jax.tree.map(lambda gradient: gradient * scale, dense_gradient)
        merged = {name: (numbers, gradients * scale) for name, (numbers, gradients) in merged.items()}
    updates, optimizer_state = optimizer.update(dense_gradient, state.optimizer)
    rate, decay = learning_rate, rule.weight_decay
    dense = apply(state.dense, updates, rate, decay, rule.anchor, origin)
    tables = {name: move(optimizer, table, found[name][1], *merged[name], rate, decay) for name, table in state.tables.items()}
    return State(dense, optimizer_state, tables, scratch), after, loss


BIAS_OF = {"targets": "target_bias", "negatives": "negative_bias", "inputs": "input_bias"}
"""By place of an item row the place of its bias; that of an input is only there to stay as it is."""


Used = dict[str, dict[str, jax.Array]]
"""Items by table and by place in `block_loss`: [rows, T], of negatives [n]."""


def used_rows(model: Model, block: Block, negatives: Negatives) -> Used:
    """Which rows of which table stand where in `block_loss`."""
    used: Used = {"item_table": {"targets": block.items[:, 1:], "negatives": negatives.items}}
    used.setdefault(model.input_table, {})["inputs"] = block.items[:, :-1]
    return {**used, "item_bias": {BIAS_OF[place]: items for place, items in used["item_table"].items()}}


def rows_of(params: Params, used: Used, weights: Mapping[str, jax.Array] = types.MappingProxyType({})) -> dict[str, jax.Array]:
    """What stands at each place: the `weights` given, and what the tables in `params` hold elsewhere."""
    read = {place: params[table][items] for table, places in used.items() for place, items in places.items() if place not in weights}
    return {**read, **weights}


def _read(spread: Spread, shape: tuple[int, ...], table: Table, places: Mapping[str, jax.Array]) -> tuple[dict[str, jax.Array], jax.Array]:
    """Weights of a table's items by place, shaped as the items are, and the whole rows of all places, one after another."""
    weights, rows = read(spread, table, _joined(places), math.prod(shape))
    parts = jnp.split(weights, np.cumsum([items.size for items in places.values()])[:-1])
    return {place: part.reshape(*places[place].shape, *shape) for place, part in zip(places, parts, strict=True)}, rows


def _joined(places: Mapping[str, jax.Array]) -> jax.Array:
    return jnp.concatenate([items.reshape(-1) for items in places.values()])


NO_ITEM = np.iinfo(np.int32).max
"""A number that no table has a row for."""


Merged = dict[str, tuple[jax.Array, jax.Array]]
"""By table: numbers of rows [R], each once, out of range where nothing moves, and their gradients [R, width]."""


def _merge(
    spread: Spread, state: State, used: Mapping[str, Mapping[str, jax.Array]], gradients: Mapping[str, jax.Array], mask: jax.Array
) -> tuple[Merged, jax.Array | None]:
    """Summed gradients of the rows that were used, each row once, and the scratch space."""
    merged, scratch = {}, state.scratch
    for table in sorted(state.tables.keys() - {"item_bias"}):
        own = len(state.tables[table].rows)
        # Momentum must not move a row that was not used: items of padded steps are no items.
        live = {place: items if place == "negatives" else jnp.where(mask, items, NO_ITEM) for place, items in used[table].items()}
        parts = [_with_bias(place, gradients, items.ndim) for place, items in live.items()]
        every = jax.tree.map(lambda *parts: jnp.concatenate(parts), *parts)
        numbers, (rows, bias, scored), scratch = merge_duplicates(own_rows(spread, _joined(live), own), every, scratch)
        merged[table] = numbers, rows
        if table == "item_table":
            # Momentum must not move the bias of an item that was only read as an input.
            merged["item_bias"] = jnp.where(scored > 0, numbers, own), bias
    return merged, scratch


def _with_bias(place: str, gradients: Mapping[str, jax.Array], leading: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of the rows at a place [n, width], of their biases [n, 1], and 1 where the row was scored [n]."""
    rows = jax.lax.collapse(gradients[place], 0, leading)
    scored = place != "inputs"
    bias = gradients[BIAS_OF[place]].reshape(-1, 1) if scored else jnp.zeros((len(rows), 1))
    return rows, bias, jnp.full(len(rows), scored, jnp.int32)
