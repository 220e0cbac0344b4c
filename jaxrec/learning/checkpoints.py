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
from jaxrec.models.recommender import Model, Params

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
    """
    checkpoints.wait_until_finished()
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract, strict=False), info=ocp.args.JsonRestore())
    found = checkpoints.restore(update, args=args)
    return found["state"], found["info"]


def save_params(folder: Path, params: Params) -> None:
    """Write a model's parameters as one orbax checkpoint; replaces an earlier one."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve(), params, force=True)


def load_params(folder: Path, model: Model) -> Params:
    """The parameters of `model` that `save_params` wrote.

    Raises:
      InputError: the folder holds no checkpoint of this model.
    """
    like = jax.eval_shape(model.init, jax.random.key(0))
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            # Tables that were spread over devices have rows after the last item's, which are left out.
            return checkpointer.restore(folder.resolve(), like, strict=False)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{folder}: expected a checkpoint of {model.options}; {str(error).splitlines()[0]}") from None


def digest(*parts: Params | int | None) -> str:
    """What tells parameters apart, to the bit; the same however they lie on devices, and whatever zeros fill up a table."""
    words = [np.asarray(words) for words in map(_words, jax.tree.leaves(parts))]
    return hashlib.sha256(b"".join(word.tobytes() for word in words)).hexdigest()


@jax.jit
def _words(array: jax.Array) -> jax.Array:
    """Two sums over the bits of all numbers, each weighted by its place, [2] uint32: sums of integers are exact in any order."""
    bits = jax.lax.bitcast_convert_type(jnp.asarray(array), jnp.uint32).reshape(-1)
    place = jnp.arange(len(bits), dtype=jnp.uint32)
    return jnp.stack([(bits * (place * jnp.uint32(2654435761) | 1)).sum(), ((bits ^ bits >> 15) * (place * jnp.uint32(40503) | 1)).sum()])
