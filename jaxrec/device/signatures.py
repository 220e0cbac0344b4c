"""What the device runs, as pure JAX functions: recommend, recommend_all, step, score, train and loss.

Shared parameters are constants of these functions (item rows that are streamed are inputs); personal parameters, the optimizer's state and
what is known of own items are inputs, because every user has others: the app keeps them, nothing hides inside the model. Nothing is
computed here that training and evaluation do not compute: the network is `Model`, the update is `step`, the history prior reads the same
features.

Dimensions: C events of context, N candidates, K own items, k results, R x T steps of a training block, n negatives, M items that the device
knows, dim of item rows and user vectors.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrec.data.blocks import Block
from jaxrec.data.own_history import OwnNow, features_now
from jaxrec.device.shipped import ExportOptions, Shipped, Tables
from jaxrec.learning.losses import MASKED
from jaxrec.learning.negatives import Negatives
from jaxrec.learning.step import State, block_loss, init_state, rows_of, used_rows
from jaxrec.learning.step import step as update
from jaxrec.models.leaves import named
from jaxrec.models.recommender import TABLES, Params, adapted


class Signature(NamedTuple):
    """One entry of the exported model.

    Attributes:
      function: trees by keyword -> trees by name.
      example: inputs of the right structure, shapes and types.
    """

    name: str
    function: Callable[..., dict[str, Any]]
    example: dict[str, Any]

    def outputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of the outputs by name."""
        return named(jax.eval_shape(lambda inputs: self.function(**inputs), self.example))


def signatures(shipped: Shipped, personal: Params, options: ExportOptions) -> list[Signature]:
    """All signatures, with examples: the given personal parameters, a new optimizer, zeros elsewhere.

    With `baked` parameters there is nothing to train, and neither `train` nor `loss`.
    """
    model, rows, steps, k = shipped.model, options.train_rows, options.train_steps, options.top_k
    own = OwnNow(_ids(options.own_items), *(jnp.zeros(options.own_items) for _ in range(4)), jnp.zeros(()), jnp.zeros(()))
    context = {"context": _ids(options.context_length), "length": _ids(), "own": own, "exclude_seen": jnp.zeros((), bool)}
    candidates, vector = {"candidates": _ids(options.candidates)}, {"user_vector": jnp.zeros(model.options.embedding_dim)}
    mask = jnp.zeros((rows, steps), bool)
    block = {"items": _ids(rows, steps + 1), "mask": mask, "reset": mask, "hidden": model.zero_hidden(rows)}
    against = {"negatives": _ids(options.train_negatives)}
    click = {"hidden": model.zero_hidden(), "item": _ids()}
    mine = {"personal": personal}
    entries = [
        Signature("recommend", partial(recommend, shipped, k), mine | context | candidates),
        Signature("recommend_all", partial(recommend_all, shipped, min(k, model.n_items)), mine | context),
        Signature("step", partial(step, shipped), mine | click),
        Signature("score", partial(score, shipped), vector | candidates),
    ]
    if options.baked:
        entries = [_with_constant(entry, personal) for entry in entries]
    else:
        state = mine | {"optimizer": init_state(shipped.rule, personal).optimizer}
        learning = {"learning_rate": jnp.zeros(())}
        entries.append(Signature("train", partial(train, shipped), state | block | against | learning))
        entries.append(Signature("loss", partial(loss, shipped), mine | block | against))
    return [_with_streamed_rows(entry, shipped.tables) for entry in entries] if options.rows == "streamed" else entries


def _with_constant(entry: Signature, personal: Params) -> Signature:
    if "personal" not in entry.example:
        return entry
    rest = {name: value for name, value in entry.example.items() if name != "personal"}
    return entry._replace(function=partial(entry.function, personal=personal), example=rest)


def _with_streamed_rows(entry: Signature, tables: Tables) -> Signature:
    """The signature with the tables as one more input; its function's first argument is what ships."""
    function, (shipped, *given) = entry.function.func, entry.function.args
    kept = entry.function.keywords

    def streamed(rows: Tables, **inputs: Any) -> dict[str, Any]:
        return function(dataclasses.replace(shipped, tables=rows), *given, **kept, **inputs)

    return entry._replace(function=streamed, example={"rows": tables, **entry.example})


def _ids(*shape: int) -> jax.Array:
    return jnp.zeros(shape, jnp.int32)


def recommend(
    shipped: Shipped,
    top_k: int,
    personal: Params,
    context: jax.Array,
    length: jax.Array,
    own: OwnNow,
    exclude_seen: jax.Array,
    candidates: jax.Array,
) -> dict[str, jax.Array]:
    """The best of the candidates.

    Args:
      context: events of the session so far, oldest first, [C] int32; what stands at `length` and after does not matter.
      length: events in the context, [] int32; with 0 the state before the first event ranks.
      own: what the device counted of the user's own items, [K] each; where there are fewer than K, -1 as item.
      exclude_seen: whether items of the running session are left out, [] bool.
      candidates: items to rank, [N] int32; -1 (or any number that names no item) is padding. An item given twice is returned once.

    Returns:
      items [k] int32, the earlier candidate first among equals, -1 where there are fewer than k; scores [k]; user_vector [dim].
    """
    vector = user_vector(shipped, personal, context, length)
    counts = shipped.known(candidates) & _first(candidates)
    found = _best(shipped, top_k, candidates, _scores(shipped, vector, candidates), counts, context, length, own, exclude_seen)
    return found | {"user_vector": vector}


def recommend_all(
    shipped: Shipped, top_k: int, personal: Params, context: jax.Array, length: jax.Array, own: OwnNow, exclude_seen: jax.Array
) -> dict[str, jax.Array]:
    """The best of all items that the device knows; as `recommend`, the smaller number first among equals."""
    vector = user_vector(shipped, personal, context, length)
    scores = shipped.tables.item_table @ vector + shipped.tables.item_bias
    # The best k without own and seen items are among these whatever is added to or taken from those, and own items join them.
    enough = min(shipped.model.n_items, top_k + len(own.items) + len(context))
    scores, best = jax.lax.top_k(scores, enough)
    best = jnp.where(_same(best, own.items).sum(1) > 0, -1, best)
    candidates = jnp.concatenate([best, own.items])
    scores = jnp.concatenate([scores, _scores(shipped, vector, own.items)])
    order = jax.lax.top_k(-candidates, len(candidates))[1]  # smaller numbers first
    counts = shipped.known(candidates)
    found = _best(shipped, top_k, candidates[order], scores[order], counts[order], context, length, own, exclude_seen)
    return found | {"user_vector": vector}


def step(shipped: Shipped, personal: Params, hidden: tuple[jax.Array, ...], item: jax.Array) -> dict[str, Any]:
    """One click: states of all layers and the user vector after it.

    Args:
      hidden: [units] for each layer; zeros before the first event of a session.
      item: [] int32.
    """
    vectors, after = _encode(shipped, personal, item[None], hidden)
    return {"hidden": after, "user_vector": vectors[0]}


def score(shipped: Shipped, user_vector: jax.Array, candidates: jax.Array) -> dict[str, jax.Array]:
    """Scores [N] of candidates by a user vector [dim] that `step` or `recommend` gave, without the history prior; very low for padding."""
    return {"scores": jnp.where(shipped.known(candidates), _scores(shipped, user_vector, candidates), MASKED)}


def train(
    shipped: Shipped,
    personal: Params,
    optimizer: Any,
    items: jax.Array,
    mask: jax.Array,
    reset: jax.Array,
    hidden: tuple[jax.Array, ...],
    negatives: jax.Array,
    learning_rate: jax.Array,
) -> dict[str, Any]:
    """One update over sessions of the user: the project's step, with the shared parameters frozen.

    Args:
      optimizer: state of the optimizer.
      items, mask, reset: a `Block` of the user's sessions, [R, T + 1] int32, [R, T] bool each.
      hidden: state of each layer before the block, [R, units] each: zeros, or what the block before returned, for sessions that go on.
      negatives: items to score against, [n] int32; drawn by the device.
      learning_rate: [] float32.

    Returns:
      personal and optimizer after the update, hidden after the block, loss [] before the update.
    """
    block, against = _block(shipped, items, mask, reset), _negatives(shipped, negatives, mask)
    state = State(personal, optimizer, {})
    state, after, found = update(
        shipped.model, shipped.rule, shipped.shared, state, block, hidden, against, learning_rate, origin=shipped.origin
    )
    return {"personal": state.dense, "optimizer": state.optimizer, "hidden": after, "loss": found}


def loss(
    shipped: Shipped,
    personal: Params,
    items: jax.Array,
    mask: jax.Array,
    reset: jax.Array,
    hidden: tuple[jax.Array, ...],
    negatives: jax.Array,
) -> dict[str, Any]:
    """What `train` would report, without learning, for a check on sessions held out; arguments as there.

    Returns:
      loss [], the mean over the block's predictions; hidden after the block.
    """
    block, against, params = _block(shipped, items, mask, reset), _negatives(shipped, negatives, mask), {**shipped.shared, **personal}
    rows = rows_of(params, used_rows(shipped.model, block, against))
    found, after = block_loss(shipped.model, shipped.rule, params, rows, block, hidden, against)
    return {"loss": found, "hidden": after}


def user_vector(shipped: Shipped, personal: Params, context: jax.Array, length: jax.Array) -> jax.Array:
    """User vector after the first `length` events of the context, [dim]; without any, what the head makes of the zero state."""
    vectors, _ = _encode(shipped, personal, context, shipped.model.zero_hidden())
    parts = adapted({name: part for name, part in {**shipped.shared, **personal}.items() if name not in TABLES})
    before = parts["dense"]["bias"] if "dense" in parts else jnp.zeros_like(vectors[0])
    return jnp.concatenate([before[None], vectors])[jnp.clip(length, 0, len(context))]


def _encode(shipped: Shipped, personal: Params, items: jax.Array, hidden: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    inputs = shipped.shared[shipped.model.input_table][shipped.clip(items)]
    return shipped.model.encode({**shipped.shared, **personal}, inputs, hidden, jnp.zeros(len(items), bool))


def _scores(shipped: Shipped, vector: jax.Array, items: jax.Array) -> jax.Array:
    rows = shipped.clip(items)
    return shipped.tables.item_table[rows] @ vector + shipped.tables.item_bias[rows]


def _best(
    shipped: Shipped,
    top_k: int,
    candidates: jax.Array,
    scores: jax.Array,
    counts: jax.Array,
    context: jax.Array,
    length: jax.Array,
    own: OwnNow,
    exclude_seen: jax.Array,
) -> dict[str, jax.Array]:
    """The best of the candidates that count, [N] bool, by the network's scores [N] and the history prior."""
    is_own, in_context = own.items >= 0, jnp.arange(len(context)) < length
    # A place without an own item counts as one click: its logarithm must be a number.
    counted = own._replace(**{name: jnp.where(is_own, getattr(own, name), 1.0) for name in ("counts", "decayed")})
    features = features_now(counted, shipped.tables.popular[shipped.clip(own.items)])
    bonus = jnp.where(is_own, features @ jnp.asarray(shipped.history, jnp.float32), 0.0)
    told = jnp.stack([jnp.pad(bonus, (0, len(context))), jnp.concatenate([is_own & (own.in_session > 0), in_context]).astype(jnp.float32)])
    added, seen = (_same(candidates, jnp.concatenate([own.items, context])) @ told.T).T
    counts = counts & ~((seen > 0) & exclude_seen)
    scores, best = jax.lax.top_k(jnp.where(counts, scores + added, MASKED), top_k)
    return {"items": jnp.where(counts, candidates, -1)[best], "scores": scores}


def _same(items: jax.Array, others: jax.Array) -> jax.Array:
    """1 where a number is one of the others, 0 elsewhere, [N, K] float32; exact below 2^24.

    Comparing is what the runtime does slowest: differences of floats take it a tenth of the time.
    """
    return jnp.maximum(1.0 - jnp.abs(items.astype(jnp.float32)[:, None] - others.astype(jnp.float32)[None]), 0.0)


def _first(items: jax.Array) -> jax.Array:
    """True where a number stands for the first time, [N]."""
    place = jnp.arange(len(items), dtype=jnp.float32)
    earliest = (place[None] + len(items) * (1.0 - _same(items, items))).min(1)
    return earliest >= place


def _block(shipped: Shipped, items: jax.Array, mask: jax.Array, reset: jax.Array) -> Block:
    return Block(shipped.clip(items), mask, reset)


def _negatives(shipped: Shipped, items: jax.Array, mask: jax.Array) -> Negatives:
    drawn = shipped.clip(items)
    return Negatives(drawn, shipped.tables.offsets[drawn], jnp.zeros(mask.shape))
