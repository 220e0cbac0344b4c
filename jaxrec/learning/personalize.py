"""Fine-tuning one model per user, thousands at a time in one compiled program.

`fit_user` is written for one user; over users it runs as vmap, as lax.map, or as a Python loop, with the same result. Shared parameters
are never copied per user. (DeepRec, WWW 2021: the device fine-tunes the last GRU layer and the dense layers.)

Do no harm: a device trains on the first part of its own sessions with each learning rate, and after each epoch compares the loss on the
last part with the global model's. What the same rate and epochs gained for other users (`Advice`) counts beside it, as
`holdout_strength` predictions more, because a few own ones say little. It then trains on all its sessions with the rate and the number of
epochs that did best, and uses the result only if they beat the global model by a margin.

Dimensions: U users of a chunk, B blocks of a user, rows x T of a block, n negatives, R learning rates, E epochs.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxrec.data.blocks import Block
from jaxrec.data.user_blocks import Known, UserEvents
from jaxrec.learning.mesh import DATA
from jaxrec.learning.negatives import Negatives, Sampler, draw_items, sampler
from jaxrec.learning.personal_recipe import ChoiceOptions, PersonalOptions
from jaxrec.learning.step import State, block_losses, init_state, rows_of, step, used_rows
from jaxrec.learning.updates import draw_dropout
from jaxrec.models.recommender import Model, Params

HOLDOUT_DRAW = 2**31
"""Number of the draw of negatives that the hold-out is judged with; updates never come so far."""

LATER_DRAWS = HOLDOUT_DRAW + 1
"""Number under which whatever is drawn for later fine-tunings stands."""


class Advice(NamedTuple):
    """What a device is told before it has seen anything of its own.

    Attributes:
      rates: learning rates to choose from, [R].
      gains: how much lower the loss of a prediction was for other users after training, by rate and epochs, [R, E].
    """

    rates: jax.Array
    gains: jax.Array


class Personal(NamedTuple):
    """What fine-tuning gave for one user, or stacked for many.

    Attributes:
      params: fine-tuned personal parameters.
      improved: whether they are to be used, [].
      rate, epochs: that they were trained with, [].
      held: predictions held out, [].
      falls: how much lower the summed loss of those was than the global model's, by rate and epochs, [R, E].
    """

    params: Params
    improved: jax.Array
    rate: jax.Array
    epochs: jax.Array
    held: jax.Array
    falls: jax.Array


class Device(NamedTuple):
    """What a user's device goes on from when it fine-tunes again, or stacked for many.

    Attributes:
      params: personal parameters as they are now.
      rate, epochs: to train them with, [].
    """

    params: Params
    rate: jax.Array
    epochs: jax.Array


def no_advice(options: PersonalOptions) -> Advice:
    """The rates of the options, none known to be better than another; where nothing else is known, the lowest, for all epochs."""
    rates = jnp.asarray(sorted(options.personal_learning_rates), jnp.float32)
    return Advice(rates, jnp.full((len(rates), options.personal_epochs), -1e-6).at[0, -1].set(0.0))


def personal_sampler(counts: np.ndarray, options: PersonalOptions) -> Sampler:
    """Negatives for a personal step, from popularity to the power `personal_sample_alpha`."""
    source = sampler(counts, options.personal_sample_alpha, 0.0)
    offsets = drawn_offsets(drawn_shares(counts, options), options.personal_n_sample)
    return source._replace(drawn_offset=jnp.asarray(offsets, jnp.float32))


def drawn_weights(counts: np.ndarray, options: PersonalOptions) -> np.ndarray:
    """How often each item is drawn as a negative, up to a factor, [items] float64."""
    return np.asarray(counts, np.float64) ** options.personal_sample_alpha


def drawn_shares(counts: np.ndarray, options: PersonalOptions) -> np.ndarray:
    """How often each item is drawn as a negative, [items] float64, summing to 1."""
    weights = drawn_weights(counts, options)
    return weights / weights.sum()


def drawn_offsets(shares: np.ndarray, n: int) -> np.ndarray:
    """What is added to the scores of items of which these shares are drawn, n items per update, [items]: each stands for 1 / (n q) items,
    so that the loss estimates the softmax over the whole catalogue."""
    return -np.log(n * np.maximum(shares, 1e-12))


def draw_negatives(source: Sampler, known: Known | None, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
    """n negatives and what is added to their scores, so that the loss estimates the softmax over the items they are drawn from, [n] each.

    Args:
      source: of `personal_sampler`.
      known: the only items to draw, as often among themselves as the source draws them; None: all.
    """
    if known is None:
        items = draw_items(source, key, n)
        return items, source.drawn_offset[items]
    place = jnp.searchsorted(known.until, jax.random.uniform(key, (n,)) * known.until[-1], side="right")
    items = known.items[jnp.minimum(place, len(known.items) - 1)]
    return items, source.drawn_offset[items] + jnp.log(known.until[-1])


def fit_user(
    model: Model,
    options: PersonalOptions,
    choice: ChoiceOptions,
    shared: Params,
    start: Params,
    source: Sampler,
    advice: Advice,
    events: UserEvents,
) -> Personal:
    """Fine-tune the personal parameters of one user.

    What is random depends on the seed and the user's index alone.

    Args:
      shared: the parts that stay as they are; `start`: personal parts to start from, the global model's.
    """
    key = jax.random.fold_in(jax.random.key(options.personal_seed), events.user)
    learn = partial(_epoch, model, options, shared, start, source, events.known, key)
    zero = jnp.zeros(advice.gains.shape)
    falls, spread = (
        _hold_out(model, options, learn, shared, start, source, key, events, advice.rates) if choice.holdout_fraction else (zero, zero)
    )
    # At least a little, so that a device without anything of its own takes what is best for others.
    total = falls + max(choice.holdout_strength, 1e-6) * advice.gains
    total = jnp.where(jnp.isfinite(total), total, -jnp.inf)  # a loss that is no number any more is the worst
    best = jnp.argmax(total)
    rate, epochs = advice.rates[best // total.shape[1]], 1 + best % total.shape[1]

    params = _train(options, learn, start, rate, epochs, events.blocks)
    held = (events.blocks.mask & events.late).sum()
    improved = total.reshape(-1)[best] > choice.holdout_margin * spread.reshape(-1)[best]
    if not choice.holdout_fraction:
        improved = advice.gains.max() >= 0
    return Personal(params, improved, rate, epochs, held, falls)


def refit_user(
    model: Model,
    options: PersonalOptions,
    shared: Params,
    origin: Params,
    source: Sampler,
    number: jax.Array,
    device: Device,
    events: UserEvents,
) -> Params:
    """Personal parameters of one user after fine-tuning again, on new events alone; nothing is held out.

    The optimizer starts afresh: a device keeps parameters between two fine-tunings and nothing else. What is random depends on the seed,
    the user's index and the number alone.

    Args:
      origin: the global model's personal parts, which the anchor goes on pulling to.
      number: how many times the device did this before, [].
    """
    key = jax.random.fold_in(jax.random.key(options.personal_seed), events.user)
    key = jax.random.fold_in(jax.random.fold_in(key, LATER_DRAWS), number)
    learn = partial(_epoch, model, options, shared, origin, source, events.known, key)
    return _train(options, learn, device.params, device.rate, device.epochs, events.blocks)


def _train(options: PersonalOptions, learn: Callable, start: Params, rate: jax.Array, epochs: jax.Array, blocks: Block) -> Params:
    """Personal parameters after so many epochs from `start`, at most `personal_epochs`."""

    def epoch(state: State, number: jax.Array) -> tuple[State, None]:
        return jax.lax.cond(number < epochs, partial(learn, rate, blocks, number), lambda state: state, state), None

    return jax.lax.scan(epoch, init_state(options.rule, start), jnp.arange(options.personal_epochs))[0].dense


def _epoch(
    model: Model,
    options: PersonalOptions,
    shared: Params,
    start: Params,
    source: Sampler,
    known: Known | None,
    key: jax.Array,
    rate: jax.Array,
    blocks: Block,
    epoch: jax.Array,
    state: State,
) -> State:
    """One pass over a user's blocks, an update each; a block without predictions leaves everything as it was."""
    rows, steps = blocks.mask.shape[1:]

    def draw(number: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        # By epoch and block: what is drawn must not depend on how many empty blocks fill the arrays up.
        negatives, dropout = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, epoch), number))
        return *draw_negatives(source, known, negatives, options.personal_n_sample), dropout

    def learn(drawn: tuple, block: Block, state: State, hidden: tuple) -> tuple[State, tuple]:
        *negatives, dropout_key = drawn
        dropout = draw_dropout(dropout_key, options.personal_dropout_p_embed, options.personal_dropout_p_hidden, model, (rows, steps))
        given = (block, hidden, Negatives(*negatives, jnp.zeros((rows, steps))), rate, dropout)
        return step(model, options.rule, shared, state, *given, origin=start)[:2]

    def update(carry, now):
        drawn, block = now
        # In a sequential run an empty block costs nothing.
        return jax.lax.cond(block.mask.any(), partial(learn, drawn, block), lambda *carry: carry, *carry), None

    # All of an epoch at once: many small draws cost more than the same in one.
    drawn = jax.vmap(draw)(jnp.arange(len(blocks.mask)))
    (state, _), _ = jax.lax.scan(update, (state, model.zero_hidden(rows)), (drawn, blocks))
    return state


def _hold_out(model, options, learn, shared, start, source, key, events, rates) -> tuple[jax.Array, jax.Array]:
    """By rate and epochs, [R, E] each: fall of the hold-out's summed loss from the global model's, and its standard error were it zero."""
    blocks, mask = events.blocks, events.blocks.mask
    early, late = blocks._replace(mask=mask & ~events.late), blocks._replace(mask=mask & events.late)
    # Among all items, whatever the device learns against: what is not pushed down must not pass for better.
    judge = draw_negatives(source, None, jax.random.fold_in(key, HOLDOUT_DRAW), options.personal_n_sample)
    losses = partial(_losses, model, options, shared, judge, late)
    before = losses(start)

    def at_rate(rate: jax.Array) -> tuple[jax.Array, jax.Array]:
        def epoch(state: State, number: jax.Array):
            state = learn(rate, early, number, state)
            fall = before - losses(state.dense)
            return state, (fall.sum(), jnp.square(fall).sum())

        return jax.lax.scan(epoch, init_state(options.rule, start), jnp.arange(options.personal_epochs))[1]

    falls, squares = jax.lax.map(at_rate, rates)
    return falls, jnp.sqrt(squares)


def _losses(
    model: Model, options: PersonalOptions, shared: Params, judge: tuple[jax.Array, jax.Array], blocks: Block, personal: Params
) -> jax.Array:
    """Loss of every prediction, [B, rows, T], against one set of negatives, the same for every `personal`."""
    rows, steps = blocks.mask.shape[1:]
    negatives, params = Negatives(*judge, jnp.zeros((rows, steps))), {**shared, **personal}

    def of_block(hidden: tuple, block: Block) -> tuple[tuple, jax.Array]:
        found, hidden = block_losses(
            model, options.rule, params, rows_of(params, used_rows(model, block, negatives)), block, hidden, negatives
        )
        return hidden, found

    def add(hidden: tuple, block: Block):
        return jax.lax.cond(block.mask.any(), of_block, lambda hidden, block: (hidden, jnp.zeros(block.mask.shape)), hidden, block)

    return jax.lax.scan(add, model.zero_hidden(rows), blocks)[1]


@partial(jax.jit, static_argnums=(0, 1, 2, 8, 9))
def fit_users(
    model: Model,
    options: PersonalOptions,
    choice: ChoiceOptions,
    shared: Params,
    start: Params,
    source: Sampler,
    advice: Advice,
    events: UserEvents,
    backend: str,
    mesh: Mesh | None = None,
) -> Personal:
    """`fit_user` for a chunk of users, all with the same shapes: events [U, ...] -> results [U, ...].

    Args:
      mesh: devices that share the users, as many for each.
    """
    one = partial(fit_user, model, options, choice)
    return _over_users(one, (shared, start, source, advice), (events,), backend, mesh)


@partial(jax.jit, static_argnums=(0, 1, 8, 9))
def refit_users(
    model: Model,
    options: PersonalOptions,
    shared: Params,
    origin: Params,
    source: Sampler,
    number: jax.Array,
    devices: Device,
    events: UserEvents,
    backend: str,
    mesh: Mesh | None = None,
) -> Params:
    """`refit_user` for a chunk of users, each from parameters of its own: devices, events [U, ...] -> parameters [U, ...].

    Args:
      mesh: as in `fit_users`.
    """
    return _over_users(partial(refit_user, model, options), (shared, origin, source, number), (devices, events), backend, mesh)


def _over_users(one: Callable, everywhere: tuple, own: tuple, backend: str, mesh: Mesh | None) -> Any:
    """`one` for every user, given what is the same `everywhere` and then the user's `own` [U, ...]."""

    def every(everywhere, own):
        def of_user(own):
            return one(*everywhere, *own)

        return jax.vmap(of_user)(own) if backend == "vmap" else jax.lax.map(of_user, own)

    if mesh is not None:
        same, split = PartitionSpec(), PartitionSpec(DATA)
        every = jax.shard_map(every, mesh=mesh, in_specs=(same, split), out_specs=split, check_vma=False)
    return every(everywhere, own)


def resolve_backend(backend: str) -> str:
    """`auto` as measured (benchmarks/personalize_throughput.py): batched small products are slow on CPUs, which run users one after
    another."""
    if backend != "auto":
        return backend
    return "map" if jax.default_backend() == "cpu" else "vmap"


def personalize(
    model: Model,
    options: PersonalOptions,
    choice: ChoiceOptions,
    shared: Params,
    start: Params,
    source: Sampler,
    advice: Advice,
    events: UserEvents,
    backend: str = "auto",
    mesh: Mesh | None = None,
) -> tuple[np.ndarray, Personal]:
    """Fine-tune a chunk of users: (user indices [U], results [U, ...]), in memory of the host, without padding users."""
    fit = partial(fit_users, model, options, choice, shared, start, source, advice)
    return _of_real_users(fit, np.asarray(events.user), (events,), backend, mesh)


def refit(
    model: Model,
    options: PersonalOptions,
    shared: Params,
    origin: Params,
    source: Sampler,
    number: int,
    devices: Device,
    events: UserEvents,
    backend: str = "auto",
    mesh: Mesh | None = None,
) -> tuple[np.ndarray, Params]:
    """Fine-tune a chunk of users again: (user indices [U], parameters [U, ...]), in memory of the host, without padding users."""
    fit = partial(refit_users, model, options, shared, origin, source, np.int32(number))
    return _of_real_users(fit, np.asarray(events.user), (devices, events), backend, mesh)


def _of_real_users(fit: Callable, users: np.ndarray, own: tuple, backend: str, mesh: Mesh | None) -> tuple[np.ndarray, Any]:
    """(users [U], what `fit` makes of their `own` arrays), without padding users, who are the last; run and shared out as asked."""
    backend, real = resolve_backend(backend), users[users >= 0]
    if backend == "loop":
        found = [fit(*jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], own), "map") for i in range(len(real))]
        return real, _joined(found, len(real))
    # Products of one user are too small to share between cores: each core runs users of its own.
    threads = os.cpu_count() if backend == "map" and mesh is None else 1
    shares = _shares(own, threads, threads if mesh is None else mesh.shape[DATA])
    with ThreadPoolExecutor(threads) as cores:
        found = list(cores.map(lambda share: jax.block_until_ready(fit(*share, backend, mesh)), shares))
    return real, _joined(found, len(real))


def _shares(own: tuple, number: int, divisor: int) -> list[tuple]:
    """Users' arrays in so many equal shares, one after another; nobody fills them up until `divisor` divides all."""
    missing = -len(jax.tree.leaves(own)[0]) % divisor
    filled = jax.tree.map(lambda leaf: np.concatenate([leaf, np.zeros((missing, *leaf.shape[1:]), leaf.dtype)]), own)
    parts = jax.tree.map(lambda leaf: np.split(leaf, number), filled)
    return jax.tree.transpose(jax.tree.structure(own), None, parts)


def _joined(found: list, users: int) -> Any:
    """Results of the first users of all shares together."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:users], *found)
