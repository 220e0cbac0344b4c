"""What the device runs, as pure JAX functions: recommend, recommend_all, step and train.

Shared parameters and offsets of negatives are constants of these functions; personal parameters, the optimizer's state and what the history
prior adds are inputs, because every user has others. Nothing is computed here that training and evaluation do not compute: the network is
`Model`, the update is `step`.

Dimensions: C events of context, N candidates, k results, R x T steps of a training block, n negatives, dim of item rows and user vectors.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.compression.rows import ENCODINGS
from jaxrec.data.blocks import Block
from jaxrec.errors import InputError
from jaxrec.learning.losses import FULL, LOSSES, MASKED
from jaxrec.learning.negatives import Negatives
from jaxrec.learning.step import Rule, State, init_state
from jaxrec.learning.step import step as update
from jaxrec.models.leaves import named
from jaxrec.models.recommender import TABLES, Model, Params, adapted
from jaxrec.options import Options, option

ENCODED_TABLES = ("item_table", "input_table")


@dataclasses.dataclass(frozen=True)
class ExportOptions(Options):
    """What the device gets: static sizes of its inputs, and how the item table is stored."""

    context_length: int = option(20, "events of a session that the device ranks by", minimum=1)
    candidates: int = option(100, "items that the device ranks in one call", minimum=1)
    top_k: int = option(10, "items that a recommendation returns", minimum=1)
    train_rows: int = option(8, "sessions in one update on the device", minimum=1)
    train_steps: int = option(8, "predictions per session in one update on the device", minimum=1)
    train_negatives: int = option(128, "items that one update on the device scores against", minimum=1)
    precision: str = option("float32", "how item rows are stored on the device", choices=tuple(ENCODINGS))

    def __post_init__(self):
        super().__post_init__()
        if self.top_k > self.candidates:
            raise InputError(f"--top_k: expected at most the number of candidates, {self.candidates}; got {self.top_k}")


@dataclasses.dataclass(frozen=True)
class Shipped:
    """Everything that is the same on all devices.

    Attributes:
      model: unrolled, because the device's runtime has no loop.
      shared: shared parameters; item tables may be encoded.
      offsets: added to the score of an item as a drawn negative in training, [items].
      rule: how a device learns.
      origin: personal parameters that the rule's anchor pulls to; None without anchor.
    """

    model: Model
    shared: Params
    offsets: jax.Array
    rule: Rule
    origin: Params | None = None

    def known(self, items: jax.Array) -> jax.Array:
        """True where a number names an item of the table."""
        return (items >= 0) & (items < self.model.n_items)

    def clip(self, items: jax.Array) -> jax.Array:
        """Numbers moved into the table: the runtime stops at a row that is not there."""
        return jnp.clip(items, 0, self.model.n_items - 1)


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


def ship(model: Model, params: Params, offsets: np.ndarray, rule: Rule, precision: str) -> tuple[Shipped, Params]:
    """(what all devices get, what each user's device starts from), on the processor, the item tables encoded as `precision` says.

    Raises:
      InputError: a device cannot learn by this rule.
    """
    check_device_rule(rule)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        # By way of NumPy: an array that is bound to its device would be exported with a sharding, which the converter does not read.
        shared, personal = model.split(jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), dict(params)))
        encoded = {name: ENCODINGS[precision](np.asarray(shared[name])) for name in ENCODED_TABLES if name in shared}
        offsets = jnp.asarray(np.asarray(offsets, np.float32))
    return Shipped(
        dataclasses.replace(model, unroll=True), {**shared, **encoded}, offsets, rule, personal if rule.anchor else None
    ), personal


def check_device_rule(rule: Rule) -> None:
    """Refuse a rule that a device cannot learn by.

    Raises:
      InputError: the loss is over all items.
    """
    if rule.loss == FULL:
        raise InputError(f"--personal_loss: expected one of {', '.join(LOSSES)} for a device; got {FULL}")


def signatures(shipped: Shipped, personal: Params, options: ExportOptions) -> list[Signature]:
    """All signatures, with examples: the given personal parameters, a new optimizer, zeros elsewhere."""
    model, rows, steps = shipped.model, options.train_rows, options.train_steps
    context = {"personal": personal, "context": _ids(options.context_length), "length": _ids()}
    candidates = {"candidates": _ids(options.candidates), "bonus": jnp.zeros(options.candidates)}
    click = {"personal": personal, "hidden": model.zero_hidden(), "item": _ids()}
    state = {"personal": personal, "optimizer": init_state(shipped.rule, personal).optimizer}
    block = {"items": _ids(rows, steps + 1), "mask": jnp.zeros((rows, steps), bool)}
    learning = {"negatives": _ids(options.train_negatives), "learning_rate": jnp.zeros(())}
    best_of_all = partial(recommend_all, shipped, min(options.top_k, model.n_items))
    return [
        Signature("recommend", partial(recommend, shipped, options.top_k), {**context, **candidates}),
        Signature("recommend_all", best_of_all, {**context, "bonus": jnp.zeros(model.n_items)}),
        Signature("step", partial(step, shipped), click),
        Signature("train", partial(train, shipped), {**state, **block, **learning}),
    ]


def _ids(*shape: int) -> jax.Array:
    return jnp.zeros(shape, jnp.int32)


def recommend(
    shipped: Shipped, top_k: int, personal: Params, context: jax.Array, length: jax.Array, candidates: jax.Array, bonus: jax.Array
) -> dict[str, jax.Array]:
    """The best of the candidates.

    Args:
      context: events of the session so far, oldest first, [C] int32; what stands at `length` and after does not matter.
      length: events in the context, [] int32; with 0 the state before the first event ranks.
      candidates: items to rank, [N] int32; -1 (or any number that names no item) is padding. An item given twice may be returned twice.
      bonus: what the history prior adds to the score of each candidate, [N] float32; 0 for items that are not the user's own.

    Returns:
      items [k] int32, the earlier candidate first among equals, -1 where there are fewer than k candidates; scores [k]; user_vector [dim].
    """
    vector = user_vector(shipped, personal, context, length)
    known, rows = shipped.known(candidates), shipped.clip(candidates)
    scores = shipped.shared["item_table"][rows] @ vector + shipped.shared["item_bias"][rows]
    scores = jnp.where(known, scores + bonus, MASKED)
    scores, best = jax.lax.top_k(scores, top_k)
    return {"items": jnp.where(known, candidates, -1)[best], "scores": scores, "user_vector": vector}


def recommend_all(
    shipped: Shipped, top_k: int, personal: Params, context: jax.Array, length: jax.Array, bonus: jax.Array
) -> dict[str, jax.Array]:
    """The best of the whole catalogue; as `recommend`, with `bonus` [items] float32 of every item."""
    vector = user_vector(shipped, personal, context, length)
    scores = shipped.shared["item_table"] @ vector + shipped.shared["item_bias"] + bonus
    scores, best = jax.lax.top_k(scores, top_k)
    return {"items": best, "scores": scores, "user_vector": vector}


def step(shipped: Shipped, personal: Params, hidden: tuple[jax.Array, ...], item: jax.Array) -> dict[str, Any]:
    """One click: states of all layers and the user vector after it.

    Args:
      hidden: [units] for each layer; zeros before the first event of a session.
      item: [] int32.
    """
    vectors, after = _encode(shipped, personal, item[None], hidden)
    return {"hidden": after, "user_vector": vectors[0]}


def train(
    shipped: Shipped,
    personal: Params,
    optimizer: Any,
    items: jax.Array,
    mask: jax.Array,
    negatives: jax.Array,
    learning_rate: jax.Array,
) -> dict[str, Any]:
    """One update over sessions of the user: the project's step, with the shared parameters frozen.

    Args:
      optimizer: state of the optimizer.
      items: sessions, oldest event first, [R, T + 1] int32; a row may hold several, with a step between them that predicts nothing.
      mask: True where items[:, t + 1] is an event to predict, [R, T] bool.
      negatives: items to score against, [n] int32; drawn by the device.
      learning_rate: [] float32.

    Returns:
      personal and optimizer after the update, loss [] before it.
    """
    drawn = shipped.clip(negatives)
    # States start from zero by themselves; within a row, what follows a step that predicts nothing is another session.
    reset = jnp.concatenate([jnp.zeros((len(mask), 1), bool), ~mask[:, :-1]], 1)
    block = Block(shipped.clip(items), mask, reset)
    against = Negatives(drawn, shipped.offsets[drawn], jnp.zeros(mask.shape))
    hidden = shipped.model.zero_hidden(len(items))
    state = State(personal, optimizer, {})
    state, _, loss = update(
        shipped.model, shipped.rule, shipped.shared, state, block, hidden, against, learning_rate, origin=shipped.origin
    )
    return {"personal": state.dense, "optimizer": state.optimizer, "loss": loss}


def user_vector(shipped: Shipped, personal: Params, context: jax.Array, length: jax.Array) -> jax.Array:
    """User vector after the first `length` events of the context, [dim]; without any, what the head makes of the zero state."""
    vectors, _ = _encode(shipped, personal, context, shipped.model.zero_hidden())
    parts = adapted({name: part for name, part in {**shipped.shared, **personal}.items() if name not in TABLES})
    before = parts["dense"]["bias"] if "dense" in parts else jnp.zeros_like(vectors[0])
    return jnp.concatenate([before[None], vectors])[jnp.clip(length, 0, len(context))]


def _encode(shipped: Shipped, personal: Params, items: jax.Array, hidden: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    inputs = shipped.shared[shipped.model.input_table][shipped.clip(items)]
    return shipped.model.encode({**shipped.shared, **personal}, inputs, hidden, jnp.zeros(len(items), bool))
