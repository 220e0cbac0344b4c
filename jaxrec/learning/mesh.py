"""Many devices: lanes are spread over the axis `data` of a mesh, rows of the item tables over its axis `model`.

The first half is about the mesh, the second about what a step says to the other devices; on one device all of that is the identity.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrec.errors import InputError
from jaxrec.options import Options, option

DATA, MODEL = "data", "model"

AUTO = "auto"
"""Coordinator address of a cluster that tells its processes of each other by itself (Slurm, Open MPI, TPU pods, ...)."""

SILENCE = 30
"""Seconds after which a process that says nothing is taken for dead; JAX then ends those that wait for it, if they have not noticed."""


@dataclasses.dataclass(frozen=True)
class MeshOptions(Options):
    """On which devices training runs."""

    mesh: str = option(
        "",
        "devices for the lanes and for the rows of the item tables, as data:8,model:1; one device, or all for lanes in several processes",
    )
    coordinator_address: str | None = option(
        None, f"host:port of the first of several processes; {AUTO}: as the cluster says (Slurm, Open MPI, TPU pods)"
    )
    num_processes: int | None = option(None, "processes that train together", minimum=1)
    process_id: int | None = option(None, "number of this one, from 0", minimum=0)

    def __post_init__(self):
        super().__post_init__()
        if self.mesh and not re.fullmatch(f"{DATA}:[1-9][0-9]*(,{MODEL}:[1-9][0-9]*)?", self.mesh):
            raise InputError(f"--mesh: expected {DATA}:N or {DATA}:N,{MODEL}:M; got {self.mesh!r}")
        address, processes, number = self.coordinator_address, self.num_processes, self.process_id
        alone = address in (None, AUTO)
        if alone != (processes is None) or alone != (number is None):
            raise InputError(
                f"--coordinator_address: expected host:port with --num_processes and --process_id, or {AUTO} or nothing without them; "
                f"got {address}, {processes} and {number}"
            )
        if not alone and not re.fullmatch(".+:[0-9]+", address):
            raise InputError(f"--coordinator_address: expected host:port; got {address!r}")
        if not alone and number >= processes:
            raise InputError(f"--process_id: expected less than --num_processes, {processes}; got {number}")


def connect(options: MeshOptions) -> None:
    """Meet the other processes, if there are any; to be called before anything is computed."""
    if options.coordinator_address is None:
        return
    try:
        if options.coordinator_address == AUTO:
            jax.distributed.initialize(heartbeat_timeout_seconds=SILENCE)
        else:
            own = (options.coordinator_address, options.num_processes, options.process_id)
            jax.distributed.initialize(*own, heartbeat_timeout_seconds=SILENCE)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"--coordinator_address: the processes did not meet; {str(error).splitlines()[0]}") from None


def open_mesh(options: MeshOptions) -> Mesh | None:
    """The mesh that was asked for; None: one device.

    Raises:
      InputError: there are not as many devices as that.
    """
    devices = jax.devices()
    sizes = [int(size) for size in re.findall("[0-9]+", options.mesh)] or [len(devices) if jax.process_count() > 1 else 1]
    sizes = (*sizes, 1)[:2]
    wanted = math.prod(sizes)
    if wanted > len(devices) or (jax.process_count() > 1 and wanted != len(devices)):
        most = "exactly" if jax.process_count() > 1 else "at most"
        raise InputError(f"--mesh: expected a mesh of {most} the {len(devices)} devices that there are; got {options.mesh!r}")
    if wanted == 1:
        return None
    return jax.make_mesh(sizes, (DATA, MODEL), (jax.sharding.AxisType.Auto,) * 2, devices=devices[:wanted])


def size(mesh: Mesh | None, axis: str) -> int:
    """Devices along an axis."""
    return 1 if mesh is None else mesh.shape[axis]


def sharding(mesh: Mesh | None, *axes: str | None) -> NamedSharding | None:
    """How an array whose dimensions lie along these axes lies on the mesh; None: on one device."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec(*axes))


def own_slice(mesh: Mesh | None, axis: str, length: int) -> slice:
    """The part of a dimension of this length along an axis that the devices of this process have."""
    if mesh is None:
        return slice(0, length)
    parts = [index[0].indices(length) for index in sharding(mesh, axis).addressable_devices_indices_map((length,)).values()]
    return slice(min(part[0] for part in parts), max(part[1] for part in parts))


def on_mesh(mesh: Mesh | None, array: np.ndarray, *axes: str | None, start: int = 0, length: int | None = None) -> jax.Array:
    """An array of the host on the devices.

    Args:
      array: along the dimension that is spread, only what this process needs: from `start` on, of a whole `length`; all of it without.
      axes: of the mesh, by dimension.
    """
    if mesh is None:
        return jnp.asarray(array)
    spread = next((i for i, axis in enumerate(axes) if axis is not None), None)
    shape = tuple(length if i == spread and length is not None else n for i, n in enumerate(array.shape))

    def part(index: tuple[slice, ...]) -> np.ndarray:
        if spread is None:
            return array[index]
        first, stop, _ = index[spread].indices(shape[spread])
        return array[(*index[:spread], slice(first - start, stop - start), *index[spread + 1 :])]

    return jax.make_array_from_callback(shape, sharding(mesh, *axes), part)


def made_on_mesh(mesh: Mesh | None, make: Callable, *arguments: Any) -> Any:
    """What `make` returns, computed on every device of the mesh."""
    return jax.jit(make, out_shardings=sharding(mesh))(*arguments)


def leads() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Go on when all processes have come to the same place in the program."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def as_the_first_says(values: dict[str, float]) -> dict[str, float]:
    """The numbers that the first process has: what is decided by them must be decided alike by all."""
    if jax.process_count() == 1:
        return values
    said = multihost_utils.broadcast_one_to_all(np.array(list(values.values()), np.float32))
    return dict(zip(values, said.tolist(), strict=True))


def told_of_a_lost_process(error: Exception) -> str | None:
    """In words, that the error came because another process has ended; None: it did not."""
    said = str(error).splitlines()[0]
    signs = "(?i)gloo|nccl|unavailable|deadline_exceeded|aborted|heartbeat|barrier|connection"
    if jax.process_count() == 1 or not re.search(signs, said):
        return None
    return f"another process has ended ({said})"


class Spread(NamedTuple):
    """Axes that a step is spread over; None: not spread.

    Attributes:
      lanes: each device of this axis has its own lanes, all the same number.
      tables: each device of this axis has its own rows of the tables, all the same number.
    """

    lanes: str | None = None
    tables: str | None = None


ALONE = Spread()


def spread_over(mesh: Mesh | None) -> Spread:
    """How a step is spread over a mesh."""
    return Spread(*(axis if size(mesh, axis) > 1 else None for axis in (DATA, MODEL)))


def own_lanes(spread: Spread, array: jax.Array, lanes: int) -> jax.Array:
    """The rows of this device's lanes, from an array over all lanes, [all lanes, ...] -> [lanes, ...]."""
    return array if spread.lanes is None else jax.lax.dynamic_slice_in_dim(array, first_lane(spread, lanes), lanes)


def first_lane(spread: Spread, lanes: int) -> jax.Array | int:
    """Number of this device's first lane among all."""
    return 0 if spread.lanes is None else jax.lax.axis_index(spread.lanes) * lanes


def all_lanes(spread: Spread, tree: Any) -> Any:
    """Arrays of integers or truth values over this device's lanes -> over all lanes, [lanes, ...] -> [all lanes, ...]."""
    if spread.lanes is None:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    lanes = len(leaves[0])
    # One message for all: what costs is their number.
    joined = jnp.concatenate([leaf.reshape(lanes, -1).astype(jnp.int32) for leaf in leaves], 1)
    parts = jnp.split(jax.lax.all_gather(joined, spread.lanes, tiled=True), np.cumsum([leaf[0].size for leaf in leaves])[:-1], 1)
    whole = [part.reshape(-1, *leaf.shape[1:]).astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, whole)


def sum_over_lanes(spread: Spread, tree: Any) -> Any:
    """The sum over what the lanes of every device gave, in one message."""
    if spread.lanes is None:
        return tree
    joined, part = ravel_pytree(tree)
    return part(jax.lax.psum(joined, spread.lanes))


def own_rows(spread: Spread, rows: jax.Array, own: int) -> jax.Array:
    """Numbers of table rows as numbers among the `own` rows of this device; `own` for every row that it does not have."""
    if spread.tables is None:
        return rows
    local = rows - jax.lax.axis_index(spread.tables) * own
    return jnp.where((local >= 0) & (local < own), local, own)


def sum_over_tables(spread: Spread, tree: Any) -> Any:
    """The sum over what the rows of every device gave."""
    return tree if spread.tables is None else jax.lax.psum(tree, spread.tables)
