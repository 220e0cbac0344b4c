"""Training the global recommender: session-parallel lanes, hundreds of updates per compiled call, resumable to the bit.

Dimensions: lanes, T steps of a block (bptt_steps), n shared negatives.
"""

import contextlib
import dataclasses
import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxrec.data.blocks import Block
from jaxrec.data.lanes import plan_lanes
from jaxrec.errors import InputError
from jaxrec.files import whole_file
from jaxrec.learning import checkpoints
from jaxrec.learning.losses import FULL, LOSSES
from jaxrec.learning.negatives import Negatives, Sampler, draw_items, sampler
from jaxrec.learning.optimizers import OPTIMIZERS, SCHEDULES, rate_at
from jaxrec.learning.step import Rule, State, init_state, step, trained_parts
from jaxrec.models.recommender import Model, Params
from jaxrec.options import Options, option

log = logging.getLogger("jaxrec")

CHOSEN_BY = "mrr@20"
"""The validation metric that picks the number of epochs."""


@dataclasses.dataclass(frozen=True)
class LossOptions(Options):
    """What an update minimises; names as in GRU4Rec."""

    loss: str = option(
        "cross-entropy",
        "loss over the targets of the other lanes and n_sample more items; full: cross-entropy over all items, which draws none",
        choices=(*LOSSES, FULL),
    )
    bpreg: float = option(1.0, "bpr-max: weight of the regularisation of the negatives' scores", minimum=0.0)
    elu_param: float = option(0.5, "bpr-max: scale of ELU below zero on the scores; 0: no ELU", minimum=0.0)
    n_sample: int = option(2048, "negatives drawn for each update, shared by all lanes", minimum=0)
    sample_alpha: float = option(0.5, "negatives are drawn from popularity to this power", minimum=0.0)
    logq: float = option(1.0, "strength of the correction that takes popularity out of the training scores", minimum=0.0)


@dataclasses.dataclass(frozen=True)
class OptimizerOptions(Options):
    """How an update moves the parameters."""

    optimizer: str = option("adagrad", "optimizer", choices=tuple(OPTIMIZERS))
    learning_rate: float = option(0.1, "length of a step", minimum=0.0)
    momentum: float = option(0.0, "momentum of the optimizer", minimum=0.0, maximum=0.999)
    weight_decay: float = option(0.0, "pull of parameters in use towards zero, times the learning rate (AdamW's with adam)", minimum=0.0)
    clip_norm: float = option(0.0, "longest gradient of an update; 0: any", minimum=0.0)
    schedule: str = option("constant", "learning rate over all --epochs: constant, or down to zero", choices=SCHEDULES)
    warmup_updates: int = option(0, "updates in which the learning rate rises to its full length", minimum=0)


@dataclasses.dataclass(frozen=True)
class RunOptions(Options):
    """How training runs."""

    epochs: int = option(20, "passes over the global period (at most, where validation stops earlier)", minimum=1)
    train_behaviors: tuple[str, ...] = option((), "behaviours whose events are trained on; empty: all (evaluation keeps all)")
    lanes: int = option(32, "sessions trained side by side", minimum=1)
    bptt_steps: int = option(1, "steps of a lane that the gradient passes back through; 1 as published", minimum=1)
    dropout_p_embed: float = option(0.3, "dropout of the input item rows", minimum=0.0, maximum=0.99)
    dropout_p_hidden: float = option(0.4, "dropout of each GRU layer's output", minimum=0.0, maximum=0.99)
    validation_fraction: float = option(
        0.1, "last part of the global sessions that chooses the number of epochs; 0 trains all epochs", minimum=0.0, maximum=0.5
    )
    patience: int = option(2, "validation may fail to improve for this many epochs", minimum=1)
    seed: int = option(0, "seed of everything random", minimum=0)
    report_updates: int = option(500, "updates per compiled call and line of metrics.jsonl", minimum=1)
    checkpoint_updates: int = option(20_000, "updates between checkpoints inside an epoch", minimum=1)


class Sessions(NamedTuple):
    """What is trained on: items [events], offsets [sessions + 1], counts [items]."""

    items: np.ndarray
    offsets: np.ndarray
    counts: np.ndarray


class Fitted(NamedTuple):
    """What training gave.

    Attributes:
      params: parameters after the last epoch, or of the best one where validation chose.
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


class Carry(NamedTuple):
    """What one update hands to the next."""

    state: State
    hidden: tuple


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All options of training."""

    loss: LossOptions = LossOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    run: RunOptions = RunOptions()

    def rule(self, lanes: int) -> Rule:
        loss, optimizer = self.loss, self.optimizer
        return Rule(
            loss=loss.loss,
            bpreg=loss.bpreg,
            elu_param=loss.elu_param,
            optimizer=optimizer.optimizer,
            momentum=optimizer.momentum,
            weight_decay=optimizer.weight_decay,
            clip_norm=optimizer.clip_norm,
            in_batch=True,
            scale=lanes * self.run.bptt_steps,
        )


class Span(NamedTuple):
    """Which updates are done at once: start:stop of an epoch, with `before` of earlier epochs, of `updates` that the schedule covers."""

    start: jax.Array | int
    stop: jax.Array | int
    before: jax.Array | int = 0
    updates: jax.Array | int = 1


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=4)
def run_updates(
    model: Model, recipe: Recipe, rule: Rule, source: Sampler, carry: Carry, epoch: Block, key: jax.Array, now: Span
) -> tuple[Carry, jax.Array]:
    """Some updates of an epoch that lies on the device; returns the carry and the summed loss over predictions.

    The random key of an update depends on `key` and its number only.
    """
    optimizer, n_sample = recipe.optimizer, recipe.loss.n_sample if rule.by_rows else 0

    def update(number, done):
        carry, total = done
        block = Block(*(part[number] for part in epoch))
        negative_key, dropout_key = jax.random.split(jax.random.fold_in(key, number))
        items = draw_items(source, negative_key, n_sample)
        negatives = Negatives(items, source.drawn_offset[items], source.column_offset[block.items[:, 1:]])
        dropout = draw_dropout(dropout_key, recipe.run, model, block.mask.shape)
        rate = optimizer.learning_rate * rate_at(optimizer.schedule, optimizer.warmup_updates, now.before + number, now.updates)
        *carry, loss = step(model, rule, {}, carry.state, block, carry.hidden, negatives, rate, dropout)
        return Carry(*carry), total + loss * rule.scale

    return jax.lax.fori_loop(now.start, now.stop, update, (carry, jnp.float32(0)))


def draw_dropout(key: jax.Array, options: RunOptions, model: Model, shape: tuple[int, int]) -> tuple:
    """Dropout multipliers for a block of shape [lanes, T]: of the item rows, and of each layer's output."""
    embed_key, *keys = jax.random.split(key, 1 + len(model.options.units))

    def multipliers(key, p, width):
        return None if p == 0 or width == 0 else jax.random.bernoulli(key, 1 - p, (*shape, width)) / jnp.float32(1 - p)

    hidden = [multipliers(key, options.dropout_p_hidden, units) for key, units in zip(keys, model.options.units, strict=True)]
    return multipliers(embed_key, options.dropout_p_embed, model.embedding_dropout), None if hidden[0] is None else tuple(hidden)


def fit(
    model: Model,
    recipe: Recipe,
    sessions: Sessions,
    folder: Path,
    epochs: int,
    validate: Callable[[Params], dict] | None = None,
    name: str = "training",
) -> Fitted:
    """Train for `epochs` epochs, or until `validate` has not improved for `patience` epochs.

    Goes on from the latest checkpoint in `folder`, with the same result as without the interruption. `metrics.jsonl` tells the loss.

    Raises:
      InputError: the loss is no longer finite; names the updates and the checkpoint before them.
      KeyboardInterrupt: the process was asked to end (SIGTERM); a checkpoint of this moment is written first.
    """
    lanes = min(recipe.run.lanes, len(sessions.offsets) - 1)
    plan = plan_lanes(sessions.items, sessions.offsets, lanes, recipe.run.bptt_steps)
    if not plan.mask.any():
        raise InputError(f"{name}: expected a session of at least 2 events to train on; got {len(sessions.offsets) - 1} shorter ones")
    with _asked_to_end() as asked:
        run = _Run(model, recipe, sessions, plan, folder, name, None if validate is None else CHOSEN_BY)
        while run.epoch < epochs and not run.out_of_patience:
            run.train_epoch(asked)
            run.finish_epoch(validate)
            if asked():
                raise KeyboardInterrupt
    return run.result(best=validate is not None)


@contextlib.contextmanager
def _asked_to_end() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has come, as clusters and phones send it before they take a machine away."""
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only that one may handle signals
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


class _Run:
    """The state of a training run between compiled calls."""

    def __init__(self, model: Model, recipe: Recipe, sessions: Sessions, plan: Block, folder: Path, name: str, metric: str | None):
        self.model, self.recipe, self.plan, self.name = model, recipe, plan, name
        self.rule = recipe.rule(plan.mask.shape[1])
        self.key = jax.random.key(recipe.run.seed)
        self.source = sampler(sessions.counts, recipe.loss.sample_alpha, recipe.loss.logq)
        self.device_plan = jax.device_put(plan)
        self.pairs = np.concatenate([[0], np.cumsum(plan.mask.sum((1, 2)))])
        self.checkpoints = checkpoints.open_checkpoints(folder / "checkpoints", metric)
        self.lines = folder / "metrics.jsonl"
        self.history: list[dict] = []
        self.done, self.seconds, self.events = 0, 0.0, 0
        self.carry = self._start()
        if (latest := self.checkpoints.latest_step()) is not None:
            self._go_on(latest)
        self._compile()

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

    @property
    def params(self) -> Params:
        return trained_parts(self.model, self.carry.state)

    def _best(self) -> int:
        return int(np.argmax([entry[CHOSEN_BY] for entry in self.history]))

    def _start(self) -> Carry:
        state = jax.jit(lambda key: init_state(self.rule, self.model.init(key)))(jax.random.fold_in(self.key, 0))
        return Carry(state, self.model.zero_hidden(self.plan.mask.shape[1]))

    def _go_on(self, latest: int) -> None:
        self.carry, info = checkpoints.restore(self.checkpoints, latest, self.carry)
        self.done, self.history, self.seconds, self.events = latest, info["history"], info["seconds"], info["events"]
        _keep_lines(self.lines, latest)
        log.info("%s: going on after update %d", self.name, latest)

    def _compile(self) -> None:
        """Compile ahead, so that compilation does not count as training."""
        arguments = (self.source, self.carry, self.device_plan, self.key, self._span(0, 0))
        self.run = run_updates.lower(self.model, self.recipe, self.rule, *arguments).compile()

    def train_epoch(self, asked_to_end: Callable[[], bool]) -> None:
        """The rest of the current epoch."""
        options, epoch = self.recipe.run, self.epoch
        key = jax.random.fold_in(self.key, 1 + epoch)
        start = self.done - epoch * self.updates_per_epoch
        if start == 0:
            self.carry = self.carry._replace(hidden=jax.tree.map(jnp.zeros_like, self.carry.hidden))
        with tqdm(
            total=self.updates_per_epoch, initial=start, desc=f"{self.name} epoch {epoch + 1}", unit="update", disable=None, leave=False
        ) as bar:
            while start < self.updates_per_epoch:
                stop = min(start + options.report_updates, self.updates_per_epoch)
                loss = self._advance(key, start, stop)
                bar.update(stop - start)
                bar.set_postfix(loss=f"{loss:.4f}")
                ends = asked_to_end()
                due = stop // options.checkpoint_updates > start // options.checkpoint_updates
                if stop < self.updates_per_epoch and (ends or due):
                    self._save(None)
                    if ends:
                        raise KeyboardInterrupt
                start = stop

    def _advance(self, key: jax.Array, start: int, stop: int) -> float:
        began = time.perf_counter()
        self.carry, total = self.run(self.source, self.carry, self.device_plan, key, self._span(start, stop))
        total = float(total)
        seconds, pairs = time.perf_counter() - began, int(self.pairs[stop] - self.pairs[start])
        if not math.isfinite(total):
            self._diverged(stop - start)
        self.done += stop - start
        self.seconds, self.events = self.seconds + seconds, self.events + pairs
        loss = total / max(pairs, 1)
        self._write_line({"updates": self.done, "loss": loss, "events_per_s": pairs / seconds})
        return loss

    def _span(self, start: int, stop: int) -> Span:
        updates = self.recipe.run.epochs * self.updates_per_epoch
        return Span(*map(jnp.int32, (start, stop, self.epoch * self.updates_per_epoch, updates)))

    def _diverged(self, updates: int) -> None:
        latest = self.checkpoints.latest_step()
        kept = "no checkpoint was made before" if latest is None else f"the checkpoint after update {latest} is kept"
        raise InputError(
            f"{self.name}: the loss is not finite in updates {self.done + 1} to {self.done + updates}; {kept}; try a lower --learning_rate"
        )

    def finish_epoch(self, validate: Callable[[Params], dict] | None) -> None:
        measured = {} if validate is None else validate(self.params)
        self.history.append({"epoch": self.epoch, **measured})
        self._write_line({"updates": self.done, **self.history[-1]})
        self._save({**measured, "epoch": self.epoch} if measured else None)

    def _save(self, metrics: dict | None) -> None:
        info = {"history": self.history, "seconds": self.seconds, "events": self.events}
        checkpoints.save(self.checkpoints, self.done, self.carry, info, metrics)

    def _write_line(self, values: dict) -> None:
        self.lines.parent.mkdir(parents=True, exist_ok=True)
        with self.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"phase": self.name, "epoch": self.epoch, **values}) + "\n")

    def result(self, best: bool) -> Fitted:
        carry = self.carry
        if best:
            at = self.history[self._best()]["epoch"] * self.updates_per_epoch
            carry, _ = checkpoints.restore(self.checkpoints, at, self.carry)
        self.checkpoints.close()
        return Fitted(trained_parts(self.model, carry.state), self.history, self.done, self.seconds, self.events)


def _keep_lines(path: Path, updates: int) -> None:
    """Drop the lines about updates that are done again."""
    if not path.exists():
        return
    lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    with whole_file(path) as partial:
        partial.write_text("".join(line for line in lines if json.loads(line)["updates"] <= updates), encoding="utf-8")
