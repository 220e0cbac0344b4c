"""Training the global recommender: session-parallel lanes, hundreds of updates per compiled call, resumable to the bit.

Dimensions: lanes, T steps of a block (bptt_steps), n shared negatives.
"""

import logging
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from jaxrec.data.blocks import Block
from jaxrec.data.lanes import plan_lanes
from jaxrec.errors import InputError, LostProcessError
from jaxrec.learning import checkpoints
from jaxrec.learning.losses import FULL
from jaxrec.learning.mesh import DATA, MODEL, made_on_mesh, on_mesh, own_slice, size
from jaxrec.learning.negatives import Sampler, sampler
from jaxrec.learning.processes import as_the_first_says, leads, lost_process_named
from jaxrec.learning.progress import Lines, asked_to_end
from jaxrec.learning.recipe import Recipe
from jaxrec.learning.step import trained_parts
from jaxrec.learning.updates import Span, all_finite, run_updates, start
from jaxrec.models.recommender import Model, Params

log = logging.getLogger("jaxrec")

CHOSEN_BY = "mrr@20"
"""The validation metric that picks the number of epochs."""


class Sessions(NamedTuple):
    """What is trained on: items [events], offsets [sessions + 1], counts [items]."""

    items: np.ndarray
    offsets: np.ndarray
    counts: np.ndarray

    @property
    def has_pairs(self) -> bool:
        """Whether an event follows another in any of them."""
        return bool((np.diff(self.offsets) > 1).any())


class Fitted(NamedTuple):
    """What training gave.

    Attributes:
      params: parameters after the last epoch, or of the best one where validation chose; tables that are spread over a mesh have as many
        rows as it divides.
      history: one entry per epoch with its number, loss and validation metrics.
      updates: updates done.
      seconds: spent in updates, without compilation and validation.
      events: pairs trained in those seconds.
    """

    params: Params
    history: list[dict]
    updates: int
    seconds: float
    events: int


def fit(
    model: Model,
    recipe: Recipe,
    sessions: Sessions,
    folder: Path,
    epochs: int,
    validate: Callable[[Params], dict] | None = None,
    name: str = "training",
    mesh: Mesh | None = None,
) -> Fitted:
    """Train for `epochs` epochs, or until `validate` has not improved for `patience` epochs.

    Goes on from the latest checkpoint in `folder`, with the same result as without the interruption; the mesh and the number of
    processes may be others than before. `metrics.jsonl` tells the loss.

    Raises:
      InputError: the loss or a parameter is no longer finite; names the updates and the checkpoint before them.
      LostProcessError: another process of the mesh has ended; names the checkpoint to go on from.
      KeyboardInterrupt: a process was asked to end (SIGTERM); a checkpoint of this moment is written first.
    """
    lanes = lanes_of(recipe, mesh, len(sessions.offsets) - 1)
    if not sessions.has_pairs:
        raise InputError(f"{name}: expected a session of at least 2 events to train on; got {len(sessions.offsets) - 1} shorter ones")
    with asked_to_end() as asked:
        run = _Run(model, recipe, sessions, lanes, folder, name, validate is not None, mesh)
        try:
            with lost_process_named(name, run.kept):
                while run.epoch < epochs and not run.out_of_patience:
                    run.train_epoch(asked)
                    run.finish_epoch(validate)
                    if asked():
                        raise KeyboardInterrupt
                return run.result(best=validate is not None)
        finally:
            run.close(wait=not isinstance(sys.exception(), LostProcessError))


def lanes_of(recipe: Recipe, mesh: Mesh | None, sessions: int) -> int:
    """Lanes to train with: as many as asked for, but not more than there are sessions.

    Raises:
      InputError: the mesh cannot share them out evenly, or not what the loss needs.
    """
    devices, lanes = size(mesh, DATA), min(recipe.run.lanes, sessions)
    if recipe.run.lanes % devices:
        raise InputError(f"--mesh: expected a number of devices for the lanes that divides --lanes, {recipe.run.lanes}; got {devices}")
    if recipe.loss.loss == FULL and size(mesh, MODEL) > 1:
        raise InputError(f"--mesh: expected {MODEL}:1 with --loss={FULL}, which reads the whole item table; got {size(mesh, MODEL)}")
    if lanes % devices:
        raise InputError(f"--mesh: expected as many sessions as --lanes, {recipe.run.lanes}, to share them out; got {sessions}")
    return lanes


class _Run:
    """The state of a training run between compiled calls."""

    def __init__(
        self,
        model: Model,
        recipe: Recipe,
        sessions: Sessions,
        lanes: int,
        folder: Path,
        name: str,
        validates: bool,
        mesh: Mesh | None,
    ):
        self.model, self.recipe, self.name, self.validates, self.mesh = model, recipe, name, validates, mesh
        self.rule = recipe.rule(lanes, model.n_items)
        self.plan = _planned(mesh, sessions, lanes, recipe.run.bptt_steps)
        pairs = made_on_mesh(mesh, lambda mask: mask.sum((1, 2)), self.plan.mask)
        self.pairs = np.append(0, np.cumsum(np.asarray(pairs, np.int64)))
        self.source = Sampler(*(on_mesh(mesh, part) for part in sampler(sessions.counts, recipe.loss.sample_alpha, recipe.loss.logq)))
        self.checkpoints = checkpoints.open_checkpoints(
            folder / "checkpoints", recipe.run.keep_checkpoints, CHOSEN_BY if validates else None
        )
        self.history: list[dict] = []
        self.done, self.seconds, self.events = 0, 0.0, 0
        self.carry = start(mesh, model, self.rule, lanes, self._key(0))
        if (latest := self.checkpoints.latest_step()) is not None:
            self._go_on(latest)
        self.lines = Lines(folder / "metrics.jsonl", name, self.done, recipe.run.tensorboard)
        # Compiled ahead, so that compilation does not count as training.
        arguments = (self.source, self.carry, self.plan, self._key(1), self._span(0, 0))
        self.run = run_updates.lower(mesh, model, recipe, self.rule, *arguments).compile()

    @property
    def updates_per_epoch(self) -> int:
        return len(self.plan.mask)

    @property
    def epoch(self) -> int:
        return self.done // self.updates_per_epoch

    @property
    def out_of_patience(self) -> bool:
        if not self.history or CHOSEN_BY not in self.history[0]:
            return False
        return len(self.history) - 1 - self._best() >= self.recipe.run.patience

    def _best(self) -> int:
        return int(np.argmax([entry[CHOSEN_BY] for entry in self.history]))

    def _key(self, number: int) -> jax.Array:
        """Random key 0 is for the start, key 1 + e for epoch e."""
        return made_on_mesh(self.mesh, _folded, np.asarray(jax.random.key_data(jax.random.key(self.recipe.run.seed))), number)

    def _go_on(self, latest: int) -> None:
        self.carry, info = checkpoints.restore(self.checkpoints, latest, self.carry)
        self.done, self.history, self.seconds, self.events = latest, info["history"], info["seconds"], info["events"]
        log.info("%s: going on after update %d", self.name, latest)

    def train_epoch(self, asked_to_end: Callable[[], bool]) -> None:
        """The rest of the current epoch."""
        options, epoch = self.recipe.run, self.epoch
        key = self._key(1 + epoch)
        begin = self.done - epoch * self.updates_per_epoch
        silent = None if leads() else True
        with tqdm(
            total=self.updates_per_epoch, initial=begin, desc=f"{self.name} epoch {epoch + 1}", unit="update", disable=silent, leave=False
        ) as bar:
            while begin < self.updates_per_epoch:
                end = min(begin + options.report_updates, self.updates_per_epoch)
                loss = self._advance(key, begin, end)
                bar.update(end - begin)
                bar.set_postfix(loss=f"{loss:.4f}")
                ends = asked_to_end()
                due = end // options.checkpoint_updates > begin // options.checkpoint_updates
                if end < self.updates_per_epoch and (ends or due):
                    self._save({})
                    if ends:
                        raise KeyboardInterrupt
                begin = end

    def _advance(self, key: jax.Array, begin: int, end: int) -> float:
        began = time.perf_counter()
        self.carry, total = self.run(self.source, self.carry, self.plan, key, self._span(begin, end))
        total = float(total)
        seconds, pairs = time.perf_counter() - began, int(self.pairs[end] - self.pairs[begin])
        if not math.isfinite(total):
            raise self._diverged("the loss", end - begin)
        self.done += end - begin
        self.seconds, self.events = self.seconds + seconds, self.events + pairs
        loss = total / max(pairs, 1)
        self.lines.write(self.done, self.epoch, {"loss": loss, "events_per_s": pairs / seconds})
        return loss

    def _span(self, begin: int, end: int) -> Span:
        updates = self.recipe.run.epochs * self.updates_per_epoch
        return Span(*map(np.int32, (begin, end, self.epoch * self.updates_per_epoch, updates)))

    def _diverged(self, what: str, updates: int) -> InputError:
        self.checkpoints.wait_until_finished()
        first = self.done + 1 if what == "the loss" else self.done - updates + 1
        return InputError(
            f"{self.name}: {what} is not finite in updates {first} to {first + updates - 1}; {self.kept()}; try a lower --learning_rate"
        )

    def kept(self) -> str:
        """What there is to go on from, in words."""
        latest = checkpoints.latest(self.checkpoints)
        return "no checkpoint was made before" if latest is None else f"the checkpoint after update {latest} is kept"

    def finish_epoch(self, validate: Callable[[Params], dict] | None) -> None:
        measured = {} if validate is None else as_the_first_says(validate(trained_parts(self.model, self.carry.state)))
        self.history.append({"epoch": self.epoch, **measured})
        self.lines.write(self.done, self.epoch, measured)
        self._save(measured)

    def _save(self, measured: dict) -> None:
        if not all_finite((self.carry.state.dense, self.carry.state.tables)):
            raise self._diverged("a parameter", min(self.recipe.run.report_updates, self.done))
        self.lines.flush()
        info = {"history": self.history, "seconds": self.seconds, "events": self.events}
        metrics = {CHOSEN_BY: checkpoints.UNMEASURED, **measured, "epoch": self.epoch} if self.validates else None
        checkpoints.save(self.checkpoints, self.done, self.carry, info, metrics)

    def result(self, best: bool) -> Fitted:
        carry = self.carry
        if best:
            at = self.history[self._best()]["epoch"] * self.updates_per_epoch
            carry, _ = checkpoints.restore(self.checkpoints, at, self.carry)
        return Fitted(trained_parts(self.model, carry.state), self.history, self.done, self.seconds, self.events)

    def close(self, wait: bool) -> None:
        """Wait for what is being written, if asked to: checkpoints wait for all processes."""
        self.lines.close()
        if wait:
            self.checkpoints.close()


def _folded(words: jax.Array, number: jax.Array) -> jax.Array:
    """A random key from the words of another and a number; traced, so that one compilation serves all epochs."""
    return jax.random.fold_in(jax.random.wrap_key_data(words), number)


def _planned(mesh: Mesh | None, sessions: Sessions, lanes: int, steps: int) -> Block:
    """The epoch on the devices; every process reads and plans only its lanes."""
    own = own_slice(mesh, DATA, lanes)
    plan = plan_lanes(sessions.items, sessions.offsets, lanes, steps, own)
    return Block(*(on_mesh(mesh, part, None, DATA, start=own.start, length=lanes) for part in plan))
