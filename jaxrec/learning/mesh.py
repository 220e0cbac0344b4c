"""Many devices: lanes are spread over the axis `data` of a mesh, rows of the item tables over its axis `model`."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrec.errors import InputError
from jaxrec.options import Options, option

DATA, MODEL = "data", "model"

AUTO = "auto"
"""Coordinator address of a cluster that tells its processes of each other by itself (Slurm, Open MPI, TPU pods, ...)."""


@dataclasses.dataclass(frozen=True)
class MeshOptions(Options):
    """On which devices and in which processes training and personalisation run."""

    mesh: str = option(
        "",
        "devices, as data:8,model:1. data: training shares its lanes out to them (by default one device, or all of several processes), "
        "personalisation its users (by default all of the process); model: training shares out the rows of the item tables",
    )
    coordinator_address: str | None = option(
        None, f"host:port of the first of several processes; {AUTO}: as the cluster says (Slurm, Open MPI, TPU pods)"
    )
    num_processes: int | None = option(None, "processes that work together", minimum=1)
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


def open_user_mesh(options: MeshOptions) -> Mesh | None:
    """The devices of this process that share users; None: one device. Processes exchange nothing about users: each has its own.

    Raises:
      InputError: there are not as many devices, or the mesh has another axis: no part of a personal model is spread.
    """
    devices = jax.local_devices()
    sizes = [int(one) for one in re.findall("[0-9]+", options.mesh)] or [len(devices)]
    if sizes[1:] not in ([], [1]) or sizes[0] > len(devices):
        raise InputError(f"--mesh: expected {DATA}:N, at most the {len(devices)} devices of this process; got {options.mesh!r}")
    return None if sizes[0] == 1 else jax.make_mesh(sizes[:1], (DATA,), (jax.sharding.AxisType.Auto,), devices=devices[: sizes[0]])


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
