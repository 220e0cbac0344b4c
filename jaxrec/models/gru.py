"""The GRU cell of GRU4Rec: reset after the product, two biases.

Cho et al. 2014, as in cuDNN and torch; Flax's own cells lack the second bias.

Dimensions: T steps, `inputs` and `units` of a layer. Single sequence; map over rows with `jax.vmap`.
"""

import jax
import jax.numpy as jnp
from flax import nnx


def uniform(key: jax.Array, rows: int, columns: int, blocks: int = 1) -> jax.Array:
    """A matrix [rows, blocks * columns], uniform in +-sqrt(6 / (rows + columns)): each block by its own shape (GRU4Rec)."""
    bound = (6.0 / (rows + columns)) ** 0.5
    return jax.random.uniform(key, (rows, blocks * columns), jnp.float32, -bound, bound)


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
          inputs: [T, inputs].
          hidden: state before the first step, [units].
          reset: True where the state is zeroed before the step, [T].
          keep: dropout multipliers of the outputs, [T, units], or None; the dropped output is what is carried on.

        Returns:
          outputs [T, units] and the state after the last step [units].
        """
        projected = (inputs if self.w_in is None else inputs @ self.w_in[...]) + self.b_in[...][None]

        def step(hidden, now):
            projected, reset, keep = now
            hidden = self._cell(projected, jnp.where(reset, 0.0, hidden))
            hidden = hidden if keep is None else hidden * keep
            return hidden, hidden

        # More than the number of steps: with just as many, JAX leaves a loop around a sequence of one.
        unroll = len(inputs) + 1 if self.unroll or len(inputs) == 1 else 1
        hidden, outputs = jax.lax.scan(step, hidden, (projected, reset, keep), unroll=unroll)
        return outputs, hidden

    def _cell(self, projected: jax.Array, hidden: jax.Array) -> jax.Array:
        units = hidden.shape[-1]
        gates = hidden @ self.w_hidden[...] + self.b_hidden[...]
        reset = jax.nn.sigmoid(projected[:units] + gates[:units])
        update = jax.nn.sigmoid(projected[units : 2 * units] + gates[units : 2 * units])
        candidate = jnp.tanh(projected[2 * units :] + reset * gates[2 * units :])
        return (1 - update) * candidate + update * hidden
