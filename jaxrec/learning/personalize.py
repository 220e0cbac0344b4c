"""Fine-tuning one model per user, thousands at a time in one compiled program.

`fit_user` is written for one user; over users it runs as vmap, as lax.map, or as a Python loop, with the same result. Shared parameters
are never copied per user. (DeepRec, WWW 2021: the device fine-tunes the last GRU layer and the dense layers.)

Dimensions: U users of a chunk, B blocks of a user, rows x T of a block, n negatives.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.blocks import Block, Histories, round_up
from jaxrec.data.dataset import Dataset
from jaxrec.data.lanes import plan_lanes
from jaxrec.errors import InputError
from jaxrec.learning.losses import LOSSES
from jaxrec.learning.negatives import Negatives, Sampler, draw_items, sampler
from jaxrec.learning.optimizers import OPTIMIZERS
from jaxrec.learning.step import Rule, block_loss, init_state, rows_of, step, used_rows
from jaxrec.models.recommender import Model, Params
from jaxrec.options import Options, option

HOLDOUT_DRAW = 2**31
"""Number of the draw of negatives that the hold-out is judged with; updates never come so far."""

BACKENDS = ("auto", "vmap", "map", "loop")


@dataclasses.dataclass(frozen=True)
class PersonalOptions(Options):
    """How a personal model is trained."""

    replay: str = option(
        "own", "a user's events to train on: all own earlier ones, or those of the personal period", choices=("own", "personal")
    )
    personal_epochs: int = option(3, "passes over the user's events", minimum=1)
    personal_learning_rates: tuple[float, ...] = option(
        (0.001, 0.003, 0.01, 0.03), "lengths of a step on the device; validation inside the global period chooses one", minimum=0.0
    )
    history_weights: tuple[float, ...] = option(
        (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0),
        "weights of the history prior; validation inside the global period chooses one",
        minimum=0.0,
    )
    validation_users: int = option(500, "users whose validation sessions choose rate and weight", minimum=1)
    personal_optimizer: str = option("adagrad", "optimizer on the device", choices=tuple(OPTIMIZERS))
    personal_loss: str = option("cross-entropy", "loss on the device", choices=tuple(LOSSES))
    personal_n_sample: int = option(256, "negatives of each update", minimum=1)
    personal_sample_alpha: float = option(0.5, "they are drawn from popularity to this power", minimum=0.0)
    block_rows: int = option(4, "sessions per update", minimum=1)
    block_steps: int = option(8, "events of a session per update; longer sessions go on in the next one", minimum=1)
    holdout_fraction: float = option(
        0.25, "last part of own sessions that must agree that the personal model is better; 0: never ask", minimum=0.0, maximum=0.9
    )
    personal_backend: str = option(
        "auto", "how users run: vmap, map (sequential scan), loop (Python); auto: by accelerator", choices=BACKENDS
    )
    users_at_once: int = option(256, "users per compiled call", minimum=1)
    personal_seed: int = option(0, "seed of the negatives", minimum=0)

    def __post_init__(self):
        super().__post_init__()
        for name in ("personal_learning_rates", "history_weights"):
            if not getattr(self, name):
                raise InputError(f"--{name}: expected at least one value; got none")

    @property
    def rule(self) -> Rule:
        return Rule(loss=self.personal_loss, optimizer=self.personal_optimizer, in_batch=False)


class UserEvents(NamedTuple):
    """One user's own events, or a chunk of users with a leading axis.

    Attributes:
      user: index of the user, [].
      fit: blocks before the hold-out, Block of [B, rows, ...].
      holdout: the blocks after it, [B, rows, ...]; nothing in them where there is no hold-out.
      all: all blocks, [B, rows, ...].
    """

    user: jax.Array
    fit: Block
    holdout: Block
    all: Block


class Personal(NamedTuple):
    """What fine-tuning gave for one user, or stacked for many.

    Attributes:
      params: fine-tuned personal parameters.
      improved: whether the hold-out agreed (True where none was asked), [].
    """

    params: Params
    improved: jax.Array


def personal_sampler(counts: np.ndarray, options: PersonalOptions) -> Sampler:
    """Negatives for a personal step: each stands for 1 / (n q) items, so that the loss estimates the softmax over the whole catalogue."""
    source = sampler(counts, options.personal_sample_alpha, 0.0)
    weights = np.asarray(counts, np.float64) ** options.personal_sample_alpha
    log_expected = np.log(options.personal_n_sample * np.maximum(weights / weights.sum(), 1e-12))
    return source._replace(drawn_offset=jnp.asarray(-log_expected, jnp.float32))


def negatives_of(source: Sampler, items: jax.Array, shape: tuple[int, int]) -> Negatives:
    """The given items as negatives of a block of shape [rows, T]."""
    return Negatives(items, source.drawn_offset[items], jnp.zeros(shape))


def fit_user(
    model: Model, options: PersonalOptions, shared: Params, start: Params, source: Sampler, events: UserEvents, learning_rate: jax.Array
) -> Personal:
    """Fine-tune the personal parameters of one user.

    Args:
      shared: the parts that stay as they are; `start`: personal parts to start from, the global model's.
      learning_rate: length of a step, [].

    Returns:
      parameters trained on all own events, and whether training on the first part helped on the hold-out.
    """
    key = jax.random.fold_in(jax.random.key(options.personal_seed), events.user)
    train = partial(_train, model, options, shared, start, source, key, learning_rate)
    if not options.holdout_fraction:
        return Personal(train(events.all), jnp.array(True))
    # One after the other in one loop, so that the update is compiled once.
    both = jax.lax.map(train, _stacked(events.fit, events.all))
    fitted, whole = (jax.tree.map(lambda leaf, i=i: leaf[i], both) for i in (0, 1))
    before, after = jax.lax.map(partial(_loss, model, options, shared, source, key, events.holdout), _stacked(start, fitted))
    return Personal(whole, ~events.holdout.mask.any() | (after < before))


def _stacked(*trees: Any) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _train(
    model: Model, options: PersonalOptions, shared: Params, start: Params, source: Sampler, key: jax.Array, rate: jax.Array, blocks: Block
) -> Params:
    rows, steps = blocks.mask.shape[1:]
    count = blocks.mask.shape[0]

    def update(carry, number):
        block = Block(*(part[number % count] for part in blocks))
        # A padding block leaves everything as it was; in a sequential run it costs nothing.
        return jax.lax.cond(block.mask.any(), partial(learn, number, block), lambda *carry: carry, *carry), None

    def learn(number, block, state, hidden):
        items = draw_items(source, jax.random.fold_in(key, number), options.personal_n_sample)
        return step(model, options.rule, shared, state, block, hidden, negatives_of(source, items, (rows, steps)), rate)[:2]

    carry = (init_state(options.rule, start), model.zero_hidden(rows))
    (state, _), _ = jax.lax.scan(update, carry, jnp.arange(options.personal_epochs * count))
    return state.dense


def _loss(
    model: Model, options: PersonalOptions, shared: Params, source: Sampler, key: jax.Array, blocks: Block, personal: Params
) -> jax.Array:
    """Mean loss of the blocks against one set of negatives, the same for every `personal`."""
    rows, steps = blocks.mask.shape[1:]
    items = draw_items(source, jax.random.fold_in(key, HOLDOUT_DRAW), options.personal_n_sample)
    negatives = negatives_of(source, items, (rows, steps))
    params = {**shared, **personal}
    rule = dataclasses.replace(options.rule, scale=1)

    def add(hidden, block):
        return jax.lax.cond(block.mask.any(), of_block, lambda hidden, _: (hidden, 0.0), hidden, block)

    def of_block(hidden, block):
        rows = rows_of(params, used_rows(model, block, negatives))
        loss, hidden = block_loss(model, rule, params, rows, block, hidden, negatives)
        return hidden, loss

    return jax.lax.scan(add, model.zero_hidden(rows), blocks)[1].sum() / blocks.mask.sum().clip(1)


@partial(jax.jit, static_argnums=(0, 1, 7))
def fit_users(
    model: Model,
    options: PersonalOptions,
    shared: Params,
    start: Params,
    source: Sampler,
    events: UserEvents,
    learning_rate: jax.Array,
    backend: str,
) -> Personal:
    """`fit_user` for a chunk of users, all with the same shapes: events [U, ...] -> personal parameters [U, ...]."""

    def one(events):
        return fit_user(model, options, shared, start, source, events, learning_rate)

    return jax.vmap(one)(events) if backend == "vmap" else jax.lax.map(one, events)


def resolve_backend(backend: str) -> str:
    """`auto` as measured (benchmarks/personalize_throughput.py): batched small products are slow on CPUs, which run users one after
    another."""
    if backend != "auto":
        return backend
    return "map" if jax.default_backend() == "cpu" else "vmap"


def personalize(
    model: Model,
    options: PersonalOptions,
    shared: Params,
    start: Params,
    source: Sampler,
    chunks: Iterator[UserEvents],
    learning_rate: float,
) -> Iterator[tuple[np.ndarray, Personal]]:
    """Fine-tune users chunk by chunk; yields (user indices [U], result [U, ...]) without padding users, in the order of the chunks."""
    backend = resolve_backend(options.personal_backend)
    for events in chunks:
        users = np.asarray(events.user)
        real = users >= 0
        if backend == "loop":
            found = [
                fit_users(model, options, shared, start, source, _one(events, i), jnp.float32(learning_rate), "map")
                for i in np.flatnonzero(real)
            ]
            yield users[real], jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)
        else:
            result = fit_users(model, options, shared, start, source, events, jnp.float32(learning_rate), backend)
            yield users[real], jax.tree.map(lambda leaf, real=real: np.asarray(leaf)[real], result)


def _one(events: UserEvents, i: int) -> UserEvents:
    return jax.tree.map(lambda leaf: leaf[i : i + 1], events)


def user_chunks(dataset: Dataset, users: Sequence[int], first: int, before: int, options: PersonalOptions) -> Iterator[UserEvents]:
    """The users' own events in sessions first:before, in chunks of few shapes.

    Users are grouped by their number of blocks, rounded up to a power of two; the last chunk of a group is filled with padding users
    (index -1). Users without any pair of events in those sessions are left out.
    """
    histories, shape = Histories(dataset), (options.block_rows, options.block_steps)
    groups: dict[int, list] = {}
    for user in users:
        own = histories.sessions_of(user, before)
        events = _user_events(dataset, int(user), own[own >= first], shape, options.holdout_fraction)
        if events.all.mask.any():
            groups.setdefault(round_up(max(len(part.mask) for part in events[1:])), []).append(events)
    for blocks in sorted(groups):
        members = groups[blocks]
        width = min(options.users_at_once, round_up(len(members)))
        for start in range(0, len(members), width):
            yield _stack(members[start : start + width], width, blocks)


def _user_events(dataset: Dataset, user: int, sessions: np.ndarray, shape: tuple[int, int], holdout_fraction: float) -> UserEvents:
    held = min(max(1, round(len(sessions) * holdout_fraction)), max(len(sessions) - 1, 0)) if holdout_fraction else 0
    cut = len(sessions) - held
    parts = (sessions[:cut], sessions[cut:], sessions)
    return UserEvents(np.int32(user), *(_plan(dataset, part, shape) for part in parts))


def _plan(dataset: Dataset, sessions: np.ndarray, shape: tuple[int, int]) -> Block:
    events = [dataset.session(int(s)) for s in sessions]
    offsets = np.cumsum([0, *(len(one) for one in events)])
    return plan_lanes(np.concatenate([np.zeros(0, np.int32), *events]), offsets, *shape)


def _stack(members: list[UserEvents], width: int, blocks: int) -> UserEvents:
    """[U, ...] arrays of one shape, filled up with padding users."""

    def parts(name):
        plans = [getattr(member, name) for member in members]
        return Block(*(_padded([plan[i] for plan in plans], width, blocks) for i in range(3)))

    user = np.full(width, -1, np.int32)
    user[: len(members)] = [member.user for member in members]
    return UserEvents(user, parts("fit"), parts("holdout"), parts("all"))


def _padded(arrays: list[np.ndarray], width: int, blocks: int) -> np.ndarray:
    out = np.zeros((width, blocks, *arrays[0].shape[1:]), arrays[0].dtype)
    for i, array in enumerate(arrays):
        out[i, : len(array)] = array
    return out
