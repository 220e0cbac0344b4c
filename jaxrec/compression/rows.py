"""Item tables in fewer bytes: every row by itself, so that a device decodes only the rows it reads.

An encoded table reads like an array: `table[items]` gives float32 rows, `table @ vector` scores every item.

Dimensions: dim of item rows.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LARGEST = 127
"""Largest magnitude of a stored int8; -128 stays unused, so that the code is symmetric."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Int8Rows:
    """A table as whole numbers and one scale per row.

    Attributes:
      values: [items, dim] int8.
      scale: [items] float32.
    """

    values: jax.Array
    scale: jax.Array

    def __getitem__(self, items: jax.Array) -> jax.Array:
        """Rows of `items`, [..., dim] float32."""
        return self.values[items].astype(jnp.float32) * self.scale[items][..., None]

    def __matmul__(self, vector: jax.Array) -> jax.Array:
        """Every row times `vector` [dim], [items] float32."""
        # The barrier keeps the converter from storing a small table decoded.
        return (jax.lax.optimization_barrier(self.values).astype(jnp.float32) @ vector) * self.scale

    def decoded(self) -> jax.Array:
        """Every row, [items, dim] float32."""
        return jax.lax.optimization_barrier(self.values).astype(jnp.float32) * self.scale[:, None]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Float16Rows:
    """A table as float16.

    Attributes:
      bits: the float16 numbers bit by bit, [items, dim] int16: the device's runtime gathers whole numbers but no float16.
    """

    bits: jax.Array

    def __getitem__(self, items: jax.Array) -> jax.Array:
        """Rows of `items`, [..., dim] float32."""
        return jax.lax.bitcast_convert_type(self.bits[items], jnp.float16).astype(jnp.float32)

    def __matmul__(self, vector: jax.Array) -> jax.Array:
        """Every row times `vector` [dim], [items] float32."""
        return self.decoded() @ vector

    def decoded(self) -> jax.Array:
        """Every row, [items, dim] float32."""
        return jax.lax.bitcast_convert_type(jax.lax.optimization_barrier(self.bits), jnp.float16).astype(jnp.float32)


def quantize_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values [items, dim] int8, scale [items] float32): value * scale is within scale / 2 of the entry; a row of zeros has scale 0.

    >>> quantize_rows(np.array([[127.0, -63.4], [0.0, 0.0]], np.float32))
    (array([[127, -63],
           [  0,   0]], dtype=int8), array([1., 0.], dtype=float32))
    """
    table = np.asarray(table, np.float32)
    scale = np.abs(table).max(1) / np.float32(LARGEST)
    # A row of the smallest numbers may have scale 0 by underflow; it is stored as zeros.
    values = np.divide(table, scale[:, None], out=np.zeros_like(table), where=scale[:, None] > 0)
    return np.clip(np.rint(values), -LARGEST, LARGEST).astype(np.int8), scale


def int8_rows(table: np.ndarray) -> Int8Rows:
    """The table row by row as int8."""
    return Int8Rows(*(jnp.asarray(part) for part in quantize_rows(table)))


def float16_rows(table: np.ndarray) -> Float16Rows:
    """The table as float16; entries beyond its range become the largest float16."""
    largest = np.finfo(np.float16).max
    return Float16Rows(jnp.asarray(np.clip(table, -largest, largest).astype(np.float16).view(np.int16)))


ENCODINGS = {"float32": jnp.asarray, "float16": float16_rows, "int8": int8_rows}
"""Table [items, dim] -> encoded table, by the name of its precision."""


def encoded(parts: Any, precision: str) -> Any:
    """A tree of parameters with every matrix encoded row by row; vectors stay as they are."""
    return jax.tree.map(lambda leaf: ENCODINGS[precision](np.asarray(leaf)) if leaf.ndim == 2 else leaf, parts)


def as_encoded(params: Mapping[str, Any], kept: Collection[str], precision: str) -> dict[str, Any]:
    """Parameters as a device decodes them: every matrix through `encoded` and back, but for the parts that devices train."""
    return {name: part if name in kept else decoded(encoded(part, precision)) for name, part in params.items()}


def decoded(parts: Any) -> Any:
    """The tree that `encoded` was given, as precisely as it was kept, float32."""
    kinds = (Int8Rows, Float16Rows)
    return jax.tree.map(
        lambda leaf: leaf.decoded() if isinstance(leaf, kinds) else leaf, parts, is_leaf=lambda leaf: isinstance(leaf, kinds)
    )
