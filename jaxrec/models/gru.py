"""The GRU cell of GRU4Rec: reset after the product, two biases.

Cho et al. 2014, as in cuDNN and torch; Flax's own cells lack the second bias.

Dimensions: T steps, `inputs` and `units` of a layer; ... stands for nothing, or for sequences side by side.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx


def uniform(key: jax.Array, rows: int, columns: int, blocks: int = 1) -> jax.Array:
    """A matrix [rows, blocks * columns], uniform in +-sqrt(6 / (rows + columns)): each block by its own shape (GRU4Rec)."""
    bound = (6.0 / (rows + columns)) ** 0.5
    return jax.random.uniform(key, (rows, blocks * columns), jnp.float32, -bound, bound)


def affine(inputs: jax.Array, matrix: jax.Array | None, bias: jax.Array) -> jax.Array:
    """inputs [..., n] @ matrix [n, m] + bias [m]; where there is no matrix, inputs are products already, [..., m]."""
    product = inputs if matrix is None else _product(inputs, matrix)
    return product + jnp.expand_dims(bias, range(product.ndim - 1))


@jax.custom_vjp
def _product(inputs: jax.Array, matrix: jax.Array) -> jax.Array:
    """inputs [..., n] @ matrix [n, m].

    The matrix's gradient is by hand: XLA computes the one that JAX derives from a copy in another order, on CPUs half as fast. Derivatives
    are backwards only, and of sequences side by side: where they are mapped with one matrix, each would get a gradient of its own first.
    """
    return inputs @ matrix


def _product_forward(inputs: jax.Array, matrix: jax.Array) -> tuple[jax.Array, tuple]:
    return inputs @ matrix, (inputs, matrix)


def _product_back(found: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    inputs, matrix = found
    flat = (part.reshape(-1, part.shape[-1]) for part in (inputs, gradient))
    return gradient @ matrix.T, jnp.einsum("ri,ro->io", *flat)


_product.defvjp(_product_forward, _product_back)


class GRULayer(nnx.Module):
    """One layer; gates lie side by side as reset, update, candidate.

    Args:
      inputs: length of an input; None: inputs come multiplied already, [3 units] (one-hot inputs: each is a row of the matrix).
      param: the type of its parameters: shared between users or personal.
      unroll: compile without a loop whatever the length (the device's runtime has none).
    """

    def __init__(self, inputs: int | None, units: int, param: type[nnx.Param], rngs: nnx.Rngs, unroll: bool = False):
        self.unroll = unroll
        self.w_in = None if inputs is None else param(uniform(rngs.params(), inputs, units, blocks=3))
        self.w_hidden = param(uniform(rngs.params(), units, units, blocks=3))
        self.b_in = param(jnp.zeros(3 * units))
        self.b_hidden = param(jnp.zeros(3 * units))

    def __call__(self, inputs: jax.Array, hidden: jax.Array, reset: jax.Array, keep: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Run over a sequence.

        Args:
          inputs: [T, ..., inputs].
          hidden: state before the first step, [..., units].
          reset: True where the state is zeroed before the step, [T, ...].
          keep: dropout multipliers of the outputs, [T, ..., units], or None; the dropped output is what is carried on.

        Returns:
          outputs [T, ..., units] and the state after the last step [..., units].
        """
        projected = affine(inputs, None if self.w_in is None else self.w_in[...], self.b_in[...])
        matrix, bias = self.w_hidden[...], self.b_hidden[...]
        # More than the number of steps: with just as many, JAX leaves a loop around a sequence of one.
        unroll = len(inputs) + 1 if self.unroll or len(inputs) == 1 else 1
        detached = jax.lax.stop_gradient((projected, matrix, bias, hidden, keep))
        trace, outputs = _run(unroll, *detached, reset)
        # Only for its gradient: that of the matrix is then one product over all steps, not one a step.
        gates = affine(trace.before, matrix, bias)
        outputs = _attach(unroll, (trace, detached[1], reset, keep), outputs, projected, gates, hidden)
        return outputs, outputs[-1]


class Trace(NamedTuple):
    """What the steps computed on their way, [T, ..., units] each.

    Attributes:
      before: states that they started from.
      forget, update, candidate: reset gate, update gate and candidate state.
      product: of `before` and the candidate's part of the matrix, with its bias.
    """

    before: jax.Array
    forget: jax.Array
    update: jax.Array
    candidate: jax.Array
    product: jax.Array


def _run(
    unroll: int, projected: jax.Array, matrix: jax.Array, bias: jax.Array, hidden: jax.Array, keep: jax.Array | None, starts: jax.Array
) -> tuple[Trace, jax.Array]:
    """The steps' trace and outputs [T, ..., units], from projected inputs [T, ..., 3 units]; the rest is as in a call and the layer."""

    def step(hidden, now):
        projected, keep, starts = now
        before = jnp.where(starts[..., None], 0.0, hidden)
        new_forget, new_update, new_candidate = jnp.split(projected, 3, axis=-1)
        old_forget, old_update, product = jnp.split(affine(before, matrix, bias), 3, axis=-1)
        forget, update = jax.nn.sigmoid(new_forget + old_forget), jax.nn.sigmoid(new_update + old_update)
        candidate = jnp.tanh(new_candidate + forget * product)
        after = (1 - update) * candidate + update * before
        after = after if keep is None else after * keep
        return after, (Trace(before, forget, update, candidate, product), after)

    return jax.lax.scan(step, hidden, (projected, keep, starts), unroll=unroll)[1]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attach(
    unroll: int,
    found: tuple[Trace, jax.Array, jax.Array, jax.Array | None],
    outputs: jax.Array,
    projected: jax.Array,
    gates: jax.Array,
    hidden: jax.Array,
) -> jax.Array:
    """The outputs [T, ..., units], with their gradient by projected inputs and gates [T, ..., 3 units] and the state before [..., units].

    Back through time by hand: what JAX derives from a loop adds to the gradient of the whole matrix at every step. Derivatives are
    first ones and backwards only, and there are none by dropout multipliers.

    Args:
      found: trace, matrix, starts and dropout multipliers of the run.
    """
    return outputs


def _remember(unroll: int, found: tuple, outputs: jax.Array, *_: jax.Array) -> tuple[jax.Array, tuple]:
    return outputs, found


def _back(unroll: int, found: tuple, gradients: jax.Array) -> tuple:
    """Gradients by the arguments of `_attach`; `gradients` are those by the outputs, [T, ..., units]."""
    trace, matrix, starts, keep = found
    transposed = matrix.T  # once, not at every step

    def step(later, now):
        gradient, (before, forget, update, candidate, product), starts, keep = now
        gradient = gradient + later
        gradient = gradient if keep is None else gradient * keep
        of_candidate = gradient * (1 - update) * (1 - candidate**2)
        of_forget = of_candidate * product * forget * (1 - forget)
        of_update = gradient * (before - candidate) * update * (1 - update)
        of_gates = jnp.concatenate([of_forget, of_update, of_candidate * forget], axis=-1)
        earlier = jnp.where(starts[..., None], 0.0, gradient * update + of_gates @ transposed)
        return earlier, (jnp.concatenate([of_forget, of_update, of_candidate], axis=-1), of_gates)

    last = jnp.zeros_like(gradients[-1])
    of_hidden, (of_projected, of_gates) = jax.lax.scan(step, last, (gradients, trace, starts, keep), reverse=True, unroll=unroll)
    return None, None, of_projected, of_gates, of_hidden


_attach.defvjp(_remember, _back)
