"""What a run says while it goes on: lines of metrics.jsonl, TensorBoard files, and whether it was asked to end."""

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxrec.errors import InputError
from jaxrec.files import whole_file
from jaxrec.learning.processes import leads


class Lines:
    """The file metrics.jsonl of a run, and the same for TensorBoard where it is asked for; one process writes it.

    Args:
      phase: said in every line.
      updates: lines about later updates are dropped, because those updates are done again.
    """

    def __init__(self, path: Path, phase: str, updates: int, tensorboard: bool):
        self._path, self._phase = path, phase
        board = _tensorboard() if tensorboard else None
        self._board = board(str(path.parent / "tensorboard"), purge_step=updates + 1) if board is not None and leads() else None
        if leads():
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_after(path, updates)

    def write(self, updates: int, epoch: int, values: dict) -> None:
        """One line about the state after `updates` updates."""
        if not leads():
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"phase": self._phase, "epoch": epoch, "updates": updates, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, updates)

    def flush(self) -> None:
        """Let no line be lost about updates that will not be done again."""
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def _tensorboard() -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise InputError("--tensorboard: expected the package tensorboardX; pip install jaxrec[tensorboard] brings it") from None
    return SummaryWriter


def _drop_after(path: Path, updates: int) -> None:
    if not path.exists():
        return
    lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    with whole_file(path) as partial:
        partial.write_text("".join(line for line in lines if json.loads(line)["updates"] <= updates), encoding="utf-8")


@contextlib.contextmanager
def asked_to_end() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has come to any process, as clusters and phones send it before they take a machine away.

    All processes have to ask at the same moments.
    """
    came = threading.Event()

    def asked() -> bool:
        if jax.process_count() == 1:
            return came.is_set()
        return bool(multihost_utils.process_allgather(np.array(came.is_set())).any())

    if threading.current_thread() is not threading.main_thread():  # only that one may handle signals
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
