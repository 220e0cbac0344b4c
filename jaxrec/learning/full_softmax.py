"""The softmax over all items without scores of all items in memory.

Dimensions: n predictions, items, dim of item rows.
"""

import jax
import jax.numpy as jnp

from jaxrec.learning.losses import MASKED

CHUNK = 4096
"""Items scored at once, at most."""


@jax.custom_vjp
def log_sum_exp(vectors: jax.Array, table: jax.Array, bias: jax.Array) -> jax.Array:
    """log sum_j exp(<vector, row_j> + bias_j) over all items, [n], in memory of n x `CHUNK`.

    Args:
      vectors: [n, dim]; table: [items, dim]; bias: [items].
    """
    return _forward(vectors, table, bias)[0]


def _chunks(items: int) -> tuple[int, int]:
    """(number of chunks, items of each); the last one may reach back over the one before."""
    number = -(-items // CHUNK)
    return number, -(-items // number)


def _scores(vectors: jax.Array, table: jax.Array, bias: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(first item, rows, scores) of a chunk; items of an earlier chunk score nothing."""
    _, size = _chunks(len(table))
    first = jnp.minimum(number * size, len(table) - size)
    rows = jax.lax.dynamic_slice_in_dim(table, first, size)
    scores = vectors @ rows.T + jax.lax.dynamic_slice_in_dim(bias, first, size)[None]
    fresh = first + jnp.arange(size) >= number * size
    return first, rows, jnp.where(fresh[None], scores, MASKED)


def _forward(vectors: jax.Array, table: jax.Array, bias: jax.Array) -> tuple[jax.Array, tuple]:
    def add(number, now):
        highest, total = now
        _, _, scores = _scores(vectors, table, bias, number)
        higher = jnp.maximum(highest, scores.max(-1))
        return higher, total * jnp.exp(highest - higher) + jnp.exp(scores - higher[:, None]).sum(-1)

    start = jnp.full(len(vectors), MASKED), jnp.zeros(len(vectors))
    highest, total = jax.lax.fori_loop(0, _chunks(len(table))[0], add, start)
    found = highest + jnp.log(total)
    return found, (vectors, table, bias, found)


def _backward(saved: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    vectors, table, bias, found = saved

    def add(number, now):
        by_vectors, by_table, by_bias = now
        first, rows, scores = _scores(vectors, table, bias, number)
        share = jnp.exp(scores - found[:, None]) * gradient[:, None]
        return (
            by_vectors + share @ rows,
            _add_at(by_table, share.T @ vectors, first),
            _add_at(by_bias, share.sum(0), first),
        )

    start = jnp.zeros_like(vectors), jnp.zeros_like(table), jnp.zeros_like(bias)
    return jax.lax.fori_loop(0, _chunks(len(table))[0], add, start)


def _add_at(whole: jax.Array, part: jax.Array, first: jax.Array) -> jax.Array:
    there = jax.lax.dynamic_slice_in_dim(whole, first, len(part))
    return jax.lax.dynamic_update_slice_in_dim(whole, there + part, first, 0)


log_sum_exp.defvjp(_forward, _backward)
