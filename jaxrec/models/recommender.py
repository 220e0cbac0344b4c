"""The recommender: item table -> stacked GRU -> optional dense head -> user vector, scored against item rows.

Its parameters are typed as shared or personal. From the typed module on, everything is plain JAX on dictionaries of arrays:

    item_table [items, dim], item_bias [items], input_table [items, dim] (separate) or [items, 3 units] (one-hot),
    lower {layer_0: ...}, last {...}, dense {kernel, bias} (only with a dense head)

Dimensions: dim of item rows and user vectors, T steps; ... as in `jaxrec.models.gru`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrec.errors import InputError
from jaxrec.models.gru import GRULayer, affine, uniform
from jaxrec.options import Options, option

Params = Mapping[str, Any]
"""Arrays by name, nested; the top level names the parts of the model."""

TABLES = ("item_table", "item_bias", "input_table")
"""Parts read by rows: an update touches only the rows it uses."""


LAST_AND_DENSE = "last_gru+dense"

TRAINABLE = {
    "dense": ("dense",),
    "last_gru": ("last",),
    LAST_AND_DENSE: ("last", "dense"),
    "all_gru": ("lower", "last"),
    "all_but_table": ("lower", "last", "dense"),
}
"""Parts that a user's device trains, by name of the choice."""


class SharedParam(nnx.Param):
    """The same for all users; never leaves the cloud's hands once trained."""


class PersonalParam(nnx.Param):
    """One copy per user, trained on the device."""


@dataclasses.dataclass(frozen=True)
class ModelOptions(Options):
    """Shape of the recommender."""

    units: tuple[int, ...] = option((100,), "units of each GRU layer, lowest first", minimum=1)
    embedding_dim: int = option(64, "length of an item row", minimum=1)
    table: str = option(
        "shared",
        "input of an item: its row of the output table (shared), of a table of its own (separate), or of the GRU's own input matrix "
        "(one-hot, without dropout_p_embed)",
        choices=("shared", "separate", "one-hot"),
    )
    dense: bool = option(
        True, "put a dense layer between the last GRU layer and the item rows; without it the last layer must have embedding_dim units"
    )

    def __post_init__(self):
        super().__post_init__()
        if not self.units:
            raise InputError("--units: expected at least one layer; got none")
        if not self.dense and self.units[-1] != self.embedding_dim:
            raise InputError(
                f"--units: without a dense head the last layer scores item rows itself and needs {self.embedding_dim} units "
                f"(--embedding_dim); got {self.units[-1]}"
            )


class Dense(nnx.Module):
    """The head that turns the last state into a user vector, linear."""

    def __init__(self, units: int, dim: int, param: type[nnx.Param], rngs: nnx.Rngs):
        self.kernel = param(uniform(rngs.params(), units, dim))
        self.bias = param(jnp.zeros(dim))

    def __call__(self, states: jax.Array) -> jax.Array:
        return affine(states, self.kernel[...], self.bias[...])


class Recommender(nnx.Module):
    """GRU4Rec with an optional dense head; by default the last GRU layer and the dense head are personal (DeepRec)."""

    def __init__(self, options: ModelOptions, n_items: int, rngs: nnx.Rngs, unroll: bool = False, trainable: str = LAST_AND_DENSE):
        lower_param, last_param, dense_param = (
            PersonalParam if part in TRAINABLE[trainable] else SharedParam for part in ("lower", "last", "dense")
        )
        dims = (None if options.table == "one-hot" else options.embedding_dim, *options.units)
        self.item_table = SharedParam(uniform(rngs.params(), n_items, options.embedding_dim))
        self.item_bias = SharedParam(jnp.zeros(n_items))
        if options.table == "separate":
            self.input_table = SharedParam(uniform(rngs.params(), n_items, options.embedding_dim))
        if options.table == "one-hot":
            self.input_table = SharedParam(uniform(rngs.params(), n_items, options.units[0], blocks=3))
        lower = [GRULayer(dims[i], dims[i + 1], lower_param, rngs, unroll) for i in range(len(options.units) - 1)]
        self.lower = nnx.Dict({f"layer_{i}": layer for i, layer in enumerate(lower)})
        self.last = GRULayer(dims[-2], dims[-1], last_param, rngs, unroll)
        self.dense = Dense(dims[-1], options.embedding_dim, dense_param, rngs) if options.dense else None

    def encode(
        self, inputs: jax.Array, hidden: tuple[jax.Array, ...], reset: jax.Array, keep: tuple[jax.Array | None, ...]
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """User vectors after each event of a sequence, or of sequences side by side.

        Args:
          inputs: item rows, [T, ..., dim].
          hidden: state of each layer before the first event, [..., units] each.
          reset: True where a session starts, [T, ...].
          keep: dropout multipliers of each layer's output, [T, ..., units] each, or None.

        Returns:
          user vectors [T, ..., dim] and the states after the last event.
        """
        after = []
        for layer, state, kept in zip([*self.lower.values(), self.last], hidden, keep, strict=True):
            inputs, state = layer(inputs, state, reset, kept)
            after.append(state)
        return inputs if self.dense is None else self.dense(inputs), tuple(after)


@dataclasses.dataclass(frozen=True)
class Model:
    """The recommender without its parameters: what to compute, and which parts belong to whom.

    Attributes:
      unroll: compile sequences without a loop, as the device needs.
      trainable: what users' devices train, a name of `TRAINABLE`.
      adapter_rank: they train updates of this rank instead of whole matrices (LoRA, Hu et al. 2021); 0: whole ones.
    """

    options: ModelOptions
    n_items: int
    unroll: bool = False
    trainable: str = LAST_AND_DENSE
    adapter_rank: int = 0

    def __post_init__(self):
        module = nnx.eval_shape(lambda: Recommender(self.options, self.n_items, nnx.Rngs(0), self.unroll, self.trainable))
        _, personal, _shared = nnx.split(module, PersonalParam, SharedParam)
        shapes = {name: part.shape[1:] for name, part in nnx.to_pure_dict(nnx.state(module)).items() if name in TABLES}
        for table in TABLES:  # encoding is given rows, never tables
            vars(module).pop(table, None)
        object.__setattr__(self, "_network", nnx.graphdef(module))
        object.__setattr__(self, "personal_parts", frozenset(nnx.to_pure_dict(personal)))
        object.__setattr__(self, "row_shapes", shapes)
        object.__setattr__(self, "input_table", "item_table" if self.options.table == "shared" else "input_table")

    def init(self, key: jax.Array) -> Params:
        """Parameters as GRU4Rec draws them: matrices uniform by their shape, biases zero."""
        return nnx.to_pure_dict(nnx.state(Recommender(self.options, self.n_items, nnx.Rngs(params=key)), nnx.Param))

    @property
    def embedding_dropout(self) -> int:
        """Length of the input embedding that dropout acts on; 0 where items have none."""
        return 0 if self.options.table == "one-hot" else self.options.embedding_dim

    def split(self, params: Params) -> tuple[dict, dict]:
        """(shared, personal) parts of the parameters; with adapters all of them are shared, and the personal part is an adapter without
        effect.

        Raises:
          InputError: a user's device would have nothing to train.
        """
        personal = {name: part for name, part in params.items() if name in self.personal_parts}
        if not jax.tree.leaves(personal):
            raise InputError(f"--trainable: expected parts of the model, which has {', '.join(params)}; got {self.trainable}")
        if self.adapter_rank:
            return dict(params), {ADAPTER: new_adapter(personal, self.adapter_rank)}
        return {name: part for name, part in params.items() if name not in personal}, personal

    def zero_hidden(self, *rows: int) -> tuple[jax.Array, ...]:
        """States before the first event, [*rows, units] for each layer."""
        return tuple(jnp.zeros((*rows, units)) for units in self.options.units)

    def encode(
        self, params: Params, inputs: jax.Array, hidden: tuple, reset: jax.Array, keep: tuple | None = None
    ) -> tuple[jax.Array, tuple]:
        """`Recommender.encode` with the given parameters, of which tables are not needed; no dropout where `keep` is None."""
        keep = (None,) * len(self.options.units) if keep is None else keep
        network = nnx.merge(self._network, adapted({name: part for name, part in params.items() if name not in TABLES}))
        return network.encode(inputs, hidden, reset, keep)


ADAPTER = "adapter"


class LowRank(NamedTuple):
    """What is added to a matrix [n, m]: left [n, rank] @ right [rank, m]."""

    left: jax.Array
    right: jax.Array


def new_adapter(parts: Params, rank: int) -> Params:
    """An update of each array that changes nothing yet: of low rank for matrices, of the same shape for vectors."""

    def update(number: int, leaf: jax.Array) -> Any:
        if leaf.ndim != 2:
            return jnp.zeros_like(leaf)
        right = jax.random.normal(jax.random.key(number), (rank, leaf.shape[1])) / math.sqrt(rank)
        return LowRank(jnp.zeros((leaf.shape[0], rank)), right)

    leaves, structure = jax.tree.flatten(parts)
    return jax.tree.unflatten(structure, [update(number, leaf) for number, leaf in enumerate(leaves)])


def adapted(params: Params) -> dict:
    """The parts with their adapter, where they have one, worked in."""
    parts = {name: part for name, part in params.items() if name != ADAPTER}

    def add(leaf: jax.Array, update: Any) -> jax.Array:
        return leaf + (update.left @ update.right if isinstance(update, LowRank) else update)

    return parts | {name: jax.tree.map(add, parts[name], update) for name, update in params.get(ADAPTER, {}).items()}


def personal_mask(model: Model, params: Params) -> dict:
    """True at the leaves that `Model.split` calls personal, False at shared ones: what optax freezes by."""
    return {name: jax.tree.map(lambda _, mine=name in model.personal_parts: mine, part) for name, part in params.items()}


def bytes_of(params: Params) -> int:
    """Bytes of all arrays."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
