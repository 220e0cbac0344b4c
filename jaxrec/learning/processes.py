"""Several processes that train together: how they meet, agree, and learn that one of them has ended; one process is never kept waiting."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxrec.errors import InputError, LostProcessError
from jaxrec.learning.mesh import AUTO, MeshOptions

SILENCE = 30
"""Seconds after which a process that says nothing is taken for dead; JAX then ends those that wait for it, if they have not noticed."""


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


@contextmanager
def lost_process_named(work: str, kept: Callable[[], str] | None = None) -> Iterator[None]:
    """Say in our own words that another process has ended, where JAX fails because of it.

    Args:
      work: what is done meanwhile.
      kept: says what there is to go on from.

    Raises:
      LostProcessError: another process has ended.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        said = str(error).splitlines()[0]
        signs = "(?i)gloo|nccl|unavailable|deadline_exceeded|aborted|heartbeat|barrier|connection"
        if jax.process_count() == 1 or not re.search(signs, said):
            raise
        kept_words = "" if kept is None else f"{kept()}; "
        raise LostProcessError(f"{work}: another process has ended ({said}); {kept_words}start all of them again") from None
