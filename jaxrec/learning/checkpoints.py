"""Checkpoints of a training run, by orbax: the latest (to go on from) and the best (to use)."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from jaxrec.errors import InputError
from jaxrec.models.leaves import named
from jaxrec.models.recommender import TABLES, Model, Params

UNMEASURED = -1.0
"""The metric of a checkpoint in the middle of an epoch; below all others."""


def open_checkpoints(folder: Path, keep: int, metric: str | None) -> ocp.CheckpointManager:
    """The checkpoints in a folder, which is made; they are written while training goes on.

    Keeps the last `keep` and, where a metric is named, the one that has it highest: the earlier epoch of two equals.
    """
    kept: list = [policies.LatestN(keep)]
    best = None if metric is None else lambda metrics: metrics[metric]
    if best is not None:
        kept.append(
            policies.BestN(get_metric_fn=lambda metrics: (metrics[metric], -metrics["epoch"]), n=1, keep_checkpoints_without_metrics=False)
        )
    options = ocp.CheckpointManagerOptions(preservation_policy=policies.AnyPreservationPolicy(kept), best_fn=best)
    return ocp.CheckpointManager(folder.resolve(), options=options)


def save(checkpoints: ocp.CheckpointManager, update: int, state: Any, info: dict, metrics: dict | None) -> None:
    """Write one checkpoint; it appears whole or not at all.

    Args:
      update: number of updates done.
      state: tree of arrays.
      info: JSON beside it.
      metrics: what the best is chosen by, and the epoch; None where nothing is chosen.
    """
    args = ocp.args.Composite(state=ocp.args.StandardSave(state), info=ocp.args.JsonSave(info))
    checkpoints.save(update, args=args, metrics=metrics, force=True)


def latest(checkpoints: ocp.CheckpointManager) -> int | None:
    """Updates done in the latest checkpoint that is written to its end; None: there is none."""
    return max((int(path.name) for path in checkpoints.directory.iterdir() if path.name.isdigit()), default=None)


def restore(checkpoints: ocp.CheckpointManager, update: int, like: Any) -> tuple[Any, dict]:
    """(state, info) of the checkpoint after `update` updates.

    Args:
      like: tree that gives structure, types and devices; tables may have other numbers of rows to fill up what a mesh divides.

    Raises:
      InputError: what is there is the state of another model.
    """
    checkpoints.wait_until_finished()
    _check(Path(checkpoints.directory) / str(update) / "state", like)
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract, strict=False), info=ocp.args.JsonRestore())
    found = checkpoints.restore(update, args=args)
    return found["state"], found["info"]


def _check(folder: Path, like: Any, more_rows: bool = False) -> None:
    """Compare shapes by name, because restoring cuts arrays or fills them up in silence; tables may have other numbers of rows, or more."""
    written = ocp.PyTreeCheckpointHandler().metadata(folder.resolve()).tree
    there, here = (
        {name: () if leaf is None else tuple(leaf.shape) for name, leaf in named(tree).items()}
        for tree in (written, ocp.utils.serialize_tree(like, keep_empty_nodes=True))
    )
    for name in sorted(there.keys() | here.keys()):
        free = any(part in (*TABLES, "scratch") for part in name.split("."))
        same = name in there and name in here and there[name][free:] == here[name][free:]
        if not same or (more_rows and free and there[name] < here[name]):
            raise InputError(f"{folder}: expected {name} of shape {here.get(name)}; got {there.get(name)}")


def save_params(folder: Path, params: Params) -> None:
    """Write a model's parameters as one orbax checkpoint; replaces an earlier one."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve(), params, force=True)


def load_params(folder: Path, model: Model) -> Params:
    """The parameters of `model` that `save_params` wrote, on one device.

    Raises:
      InputError: the folder holds no checkpoint of this model.
    """
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = jax.eval_shape(model.init, jax.random.key(0))
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), like)
    try:
        _check(folder, like, more_rows=True)
        with ocp.StandardCheckpointer() as checkpointer:
            # Tables that were spread over devices have rows after the last item's, which are left out.
            return checkpointer.restore(folder.resolve(), like, strict=False)
    except InputError:
        raise
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{folder}: expected a checkpoint of {model.options}; {str(error).splitlines()[0]}") from None


def digest(*parts: Params | int | None) -> str:
    """What tells parameters apart, to the bit; the same however they lie on devices, and whatever zeros fill up a table."""
    found = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(parts, is_leaf=lambda part: part is None):
        shape = () if leaf is None else np.shape(leaf)[1:]
        found.update(f"{jax.tree_util.keystr(path)} {shape}".encode())
        found.update(b"" if leaf is None else np.asarray(_words(leaf)).tobytes())
    return found.hexdigest()


@jax.jit
def _words(array: jax.Array) -> jax.Array:
    """Two sums over all numbers, each mixed with its place, [2] uint32: sums of integers are exact in any order. Zeros add nothing."""
    bits = jax.lax.bitcast_convert_type(jnp.asarray(array), jnp.uint32).reshape(-1)
    place = jnp.arange(len(bits), dtype=jnp.uint32)
    mixed = (_mixed(bits ^ _mixed(place + jnp.uint32(seed))) for seed in (1, 0x9E3779B9))
    return jnp.stack([jnp.where(bits == 0, 0, words).sum() for words in mixed])


def _mixed(words: jax.Array) -> jax.Array:
    """Every bit of the result depends on every bit of a word (the finaliser of MurmurHash3, Appleby 2011)."""
    words = (words ^ words >> 16) * jnp.uint32(0x85EBCA6B)
    words = (words ^ words >> 13) * jnp.uint32(0xC2B2AE35)
    return words ^ words >> 16
