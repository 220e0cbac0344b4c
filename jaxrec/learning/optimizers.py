"""Optimizers as optax transformations without the learning rate, applied to whole parameters or under a freeze mask.

The rate is an argument of the step, so that one compiled program serves a grid of rates and the device can choose its own.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def adagrad(momentum: float) -> optax.GradientTransformation:
    """GRU4Rec's Adagrad: accumulator from zero, so the first step is as long as the rate; classical momentum on the scaled step."""
    scaled = optax.scale_by_rss(initial_accumulator_value=0.0, eps=1e-6)
    return optax.chain(scaled, optax.trace(momentum)) if momentum else scaled


OPTIMIZERS = {
    "adagrad": adagrad,
    "adam": lambda momentum: optax.scale_by_adam(b1=momentum or 0.9),
    "sgd": lambda momentum: optax.trace(momentum) if momentum else optax.identity(),
}


def frozen_outside(optimizer: optax.GradientTransformation, mask: Any) -> optax.GradientTransformation:
    """The optimizer where `mask` is True; elsewhere parameters stay bit-identical."""
    labels = jax.tree.map(lambda trained: "trained" if trained else "frozen", mask)
    return optax.multi_transform({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def apply(params: Any, updates: Any, learning_rate: jax.Array, weight_decay: float = 0.0, anchor: float = 0.0, origin: Any = None) -> Any:
    """Parameters moved against the updates and, decoupled from them, towards zero (Loshchilov and Hutter 2019) and towards where they
    started (L2-SP, Li et al. 2018)."""
    if weight_decay:
        updates = jax.tree.map(lambda update, p: update + weight_decay * p, updates, params)
    if anchor:
        updates = jax.tree.map(lambda update, p, o: update + anchor * (p - o), updates, params, origin)
    return jax.tree.map(lambda p, update: p - learning_rate * update, params, updates)


def squares(gradients: Any) -> jax.Array:
    """Sum of the squares of all numbers of a tree, []."""
    return optax.tree.norm(gradients, squared=True)


def clip_scale(longest: float, length: jax.Array) -> jax.Array:
    """What brings a gradient of this length down to `longest`, at most 1 (Pascanu et al. 2013)."""
    return jnp.minimum(1.0, longest / jnp.maximum(length, 1e-12))


SCHEDULES = ("constant", "linear", "cosine")


def rate_at(schedule: str, warmup: int, update: jax.Array, updates: jax.Array) -> jax.Array:
    """Share of the learning rate at an update: linear rise over the first `warmup` ones, then by the schedule down to zero at the end.

    >>> [float(rate_at("linear", 2, jnp.int32(n), jnp.int32(10))) for n in (0, 1, 2, 6)]
    [0.5, 1.0, 1.0, 0.5]
    """
    rise = jnp.minimum(1.0, (update + 1) / warmup) if warmup else jnp.float32(1.0)
    done = jnp.clip((update - warmup) / jnp.maximum(updates - warmup, 1), 0.0, 1.0)
    fall = {"constant": jnp.ones_like(done), "linear": 1 - done, "cosine": 0.5 * (1 + jnp.cos(jnp.pi * done))}[schedule]
    return rise * fall
