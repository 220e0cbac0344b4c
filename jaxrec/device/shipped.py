"""What leaves the cloud: the options of an export, and the parameters as all devices get them.

Dimensions: M items that the device knows, dim of item rows and user vectors.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.compression.rows import ENCODINGS, decoded, encoded
from jaxrec.errors import InputError
from jaxrec.learning.losses import FULL, LOSSES
from jaxrec.learning.personal_recipe import PersonalOptions, UserRunOptions
from jaxrec.learning.step import Rule
from jaxrec.models.recommender import TABLES, Model, Params
from jaxrec.options import Options, option

ROWS = ("bundled", "candidates", "streamed")


@dataclasses.dataclass(frozen=True)
class ExportOptions(Options):
    """What the device gets: static sizes of its inputs, and how item rows are stored."""

    context_length: int = option(20, "events of a session that the device ranks by", minimum=1)
    candidates: int = option(100, "items that the device ranks in one call", minimum=1)
    own_items: int = option(128, "own items that the history prior reads; of a user with more, those clicked last", minimum=1)
    top_k: int = option(10, "items that a recommendation returns", minimum=1)
    train_rows: int = option(0, "sessions in one update on the device; 0: as users were fine-tuned", minimum=0)
    train_steps: int = option(0, "predictions per session in one update on the device; 0: as users were fine-tuned", minimum=0)
    train_negatives: int = option(0, "items that one update on the device scores against; 0: as users were fine-tuned", minimum=0)
    precision: str = option("float32", "how item rows and frozen matrices are stored on the device", choices=tuple(ENCODINGS))
    rows: str = option(
        "bundled",
        "item rows: all in the model file (bundled), only those of one user's candidates and own items (candidates, with --user), or none: "
        "they are inputs that the cloud sends (streamed)",
        choices=ROWS,
    )
    streamed_rows: int = option(256, "with --rows=streamed: item rows that a device holds", minimum=1)
    baked: bool = option(False, "store the personal parameters inside the file: faster, and nothing can be trained")

    def __post_init__(self):
        super().__post_init__()
        if self.top_k > self.candidates:
            raise InputError(f"--top_k: expected at most the number of candidates, {self.candidates}; got {self.top_k}")

    def sized_as(self, training: PersonalOptions, run: UserRunOptions) -> "ExportOptions":
        """The same with the sizes of an update that users were fine-tuned with, where nothing else was said."""
        sizes = {"train_rows": run.block_rows, "train_steps": run.block_steps, "train_negatives": training.personal_n_sample}
        return dataclasses.replace(self, **{name: getattr(self, name) or size for name, size in sizes.items()})


class Tables(NamedTuple):
    """What is known of each item, as constants of the model file or as inputs.

    Attributes:
      item_table: [M, dim]; may be encoded.
      item_bias: [M].
      offsets: added to the score of an item as a drawn negative in training, [M].
      popular: `jaxrec.data.own_history.popularity`, for the history prior, [M].
      input_table: rows of their own that items are read by, or None; may be encoded.
    """

    item_table: Any
    item_bias: jax.Array
    offsets: jax.Array
    popular: jax.Array
    input_table: Any = None


@dataclasses.dataclass(frozen=True)
class Shipped:
    """Everything that is the same on all devices.

    Attributes:
      model: unrolled, because the device's runtime has no loop; its items are those the device knows.
      tables: see `Tables`.
      frozen: shared parts that are no tables; matrices may be encoded.
      rule: how a device learns.
      history: weights of the history prior, one for each of `jaxrec.data.own_history.FEATURES`.
      origin: personal parameters that the rule's anchor pulls to; None without anchor.
    """

    model: Model
    tables: Tables
    frozen: Params
    rule: Rule
    history: tuple[float, ...]
    origin: Params | None = None

    @property
    def shared(self) -> Params:
        """The shared parts by name; tables may be encoded."""
        tables = {name: table for name, table in self.tables._asdict().items() if name in TABLES and table is not None}
        return {**tables, **decoded(self.frozen)}

    def looped(self) -> "Shipped":
        """The same with a loop over steps, as training runs it: quick to compile."""
        return dataclasses.replace(self, model=dataclasses.replace(self.model, unroll=False))

    def known(self, items: jax.Array) -> jax.Array:
        """True where a number names an item of the tables."""
        return (items >= 0) & (items < self.model.n_items)

    def clip(self, items: jax.Array) -> jax.Array:
        """Numbers moved into the tables: the runtime stops at a row that is not there."""
        return jnp.clip(items, 0, self.model.n_items - 1)


def ship(
    model: Model, params: Params, offsets: np.ndarray, popular: np.ndarray, rule: Rule, history: tuple[float, ...], precision: str
) -> tuple[Shipped, Params]:
    """(what all devices get, what each user's device starts from), on the processor, encoded as `precision` says.

    Personal parameters stay as they are: devices train them.

    Raises:
      InputError: a device cannot learn by this rule.
    """
    check_device_rule(rule)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        # By way of NumPy: an array that is bound to its device would be exported with a sharding, which the converter does not read.
        shared, personal = model.split(jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), dict(params)))
        tables = {name: ENCODINGS[precision](np.asarray(shared[name])) for name in ("item_table", "input_table") if name in shared}
        offsets, popular = (jnp.asarray(np.asarray(column, np.float32)) for column in (offsets, popular))
        frozen = encoded({name: part for name, part in shared.items() if name not in TABLES}, precision)
    shipped = Shipped(
        dataclasses.replace(model, unroll=True),
        Tables(item_bias=shared["item_bias"], offsets=offsets, popular=popular, **tables),
        frozen,
        rule,
        tuple(history),
        personal if rule.anchor else None,
    )
    return shipped, personal


def only_items(model: Model, params: Params, items: np.ndarray) -> tuple[Model, Params]:
    """The model that knows only some items, renumbered in the order given: what DeepRec's devices download."""
    tables = {name: np.asarray(params[name])[items] for name in TABLES if name in params}
    return dataclasses.replace(model, n_items=len(items)), {**params, **tables}


def check_device_rule(rule: Rule) -> None:
    """Refuse a rule that a device cannot learn by.

    Raises:
      InputError: the loss is over all items.
    """
    if rule.loss == FULL:
        raise InputError(f"--personal_loss: expected one of {', '.join(LOSSES)} for a device; got {FULL}")
