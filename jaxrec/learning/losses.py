"""Losses of one prediction against its negatives (GRU4Rec, Hidasi et al. 2016 and 2018).

Every loss takes the target's score [...], the scores of C columns [..., C] and which columns count [..., C], and gives one value per
prediction [...]. The target is no column of its own. No gather is used, so the gradient converts to the device's operations.

`o_i` is the target's score, `o_j` that of a negative, `s_j` its share of a softmax over the negatives alone.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

# Far below any score, yet finite: the device's arithmetic has no infinity.
MASKED = -1e30


def cross_entropy(target: jax.Array, others: jax.Array, counts: jax.Array) -> jax.Array:
    """Softmax over the target and the columns.

    >>> float(cross_entropy(jnp.array(0.0), jnp.array([0.0, 5.0]), jnp.array([True, False])))  # log 2
    0.6931471824645996
    """
    others = jnp.where(counts, others, MASKED)
    highest = jax.lax.stop_gradient(jnp.maximum(others.max(-1), target))
    total = jnp.exp(target - highest) + jnp.exp(others - highest[..., None]).sum(-1)
    return jnp.log(total) + highest - target


def _softmax(others: jax.Array, counts: jax.Array) -> jax.Array:
    """Shares of the columns that count; zeros where none does."""
    shares = jnp.exp(jnp.where(counts, others, MASKED) - jnp.where(counts, others, MASKED).max(-1)[..., None])
    return jnp.where(counts, shares / shares.sum(-1)[..., None], 0.0)


def bpr_max(target: jax.Array, others: jax.Array, counts: jax.Array, bpreg: float = 1.0, elu_param: float = 0.5) -> jax.Array:
    """-log sum_j s_j sigmoid(o_i - o_j) + bpreg sum_j s_j o_j^2, on ELU of the scores (Hidasi and Karatzoglou 2018).

    Args:
      bpreg: weight of the regularisation of the negatives' scores.
      elu_param: scale of ELU below zero; 0 leaves the scores as they are.

    >>> float(bpr_max(jnp.array(1.0), jnp.array([1.0, 9.0]), jnp.array([True, False]), bpreg=2.0))  # log 2 + 2 x 1
    2.6931471824645996
    """
    if elu_param:
        target, others = (jax.nn.elu(scores, elu_param) for scores in (target, others))
    shares = _softmax(others, counts)
    likely = (shares * jax.nn.sigmoid(target[..., None] - others)).sum(-1)
    # 1e-24 as published: where every negative is far above the target, the logarithm stays finite.
    return -jnp.log(likely + 1e-24) + bpreg * (shares * others**2).sum(-1)


def bpr(target: jax.Array, others: jax.Array, counts: jax.Array) -> jax.Array:
    """Mean of -log sigmoid(o_i - o_j) over the columns, the target's own included (log 2, as published).

    >>> float(bpr(jnp.array(1.0), jnp.array([1.0, 9.0]), jnp.array([True, False])))  # log 2
    0.6931471824645996
    """
    total = jnp.where(counts, jax.nn.softplus(others - target[..., None]), 0.0).sum(-1)
    return (total + jnp.log(2.0)) / (1 + counts.sum(-1))


def _top1_terms(target: jax.Array, others: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(others - target[..., None]) + jax.nn.sigmoid(others**2)


def top1(target: jax.Array, others: jax.Array, counts: jax.Array) -> jax.Array:
    """Mean of sigmoid(o_j - o_i) + sigmoid(o_j^2) over the columns, less the target's own regularisation (Hidasi et al. 2016).

    >>> float(top1(jnp.array(0.0), jnp.array([0.0, 9.0]), jnp.array([True, False])))  # (1/2 + 1/2 + 1/2) / 2
    0.75
    """
    return (jnp.where(counts, _top1_terms(target, others), 0.0).sum(-1) + 0.5) / (1 + counts.sum(-1))


def top1_max(target: jax.Array, others: jax.Array, counts: jax.Array) -> jax.Array:
    """Sum of s_j (sigmoid(o_j - o_i) + sigmoid(o_j^2)) (Hidasi and Karatzoglou 2018).

    >>> float(top1_max(jnp.array(0.0), jnp.array([0.0, 9.0]), jnp.array([True, False])))
    1.0
    """
    return (_softmax(others, counts) * _top1_terms(target, others)).sum(-1)


FULL = "full"
"""Cross-entropy over all items; not one of columns, so it has no function here (see `full_softmax`)."""

LOSSES: dict[str, Loss] = {"cross-entropy": cross_entropy, "bpr-max": bpr_max, "bpr": bpr, "top1": top1, "top1-max": top1_max}


def loss_of(name: str, bpreg: float, elu_param: float) -> Loss:
    """The named loss with its parameters set."""
    return functools.partial(bpr_max, bpreg=bpreg, elu_param=elu_param) if name == "bpr-max" else LOSSES[name]
