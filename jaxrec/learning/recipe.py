"""All options of training: what an update minimises, how it moves the parameters, how training runs."""

import dataclasses

from jaxrec.learning.losses import FULL, LOSSES
from jaxrec.learning.optimizers import OPTIMIZERS, SCHEDULES
from jaxrec.learning.step import Rule
from jaxrec.options import Options, option

AUTO = "auto"


@dataclasses.dataclass(frozen=True)
class LossOptions(Options):
    """What an update minimises; names as in GRU4Rec."""

    loss: str = option(
        AUTO,
        "loss over the targets of the other lanes and n_sample more items; full: cross-entropy over all items, which draws none; "
        "auto: full for at most 2 n_sample items, where it costs no more and is exact, else cross-entropy; both with a rate that falls",
        choices=(AUTO, *LOSSES, FULL),
    )
    bpreg: float = option(1.0, "bpr-max: weight of the regularisation of the negatives' scores", minimum=0.0)
    elu_param: float = option(0.5, "bpr-max: scale of ELU below zero on the scores; 0: no ELU", minimum=0.0)
    n_sample: int = option(2048, "negatives drawn for each update, shared by all lanes", minimum=0)
    sample_alpha: float = option(0.5, "negatives are drawn from popularity to this power", minimum=0.0)
    logq: float = option(1.0, "strength of the correction that takes popularity out of the training scores", minimum=0.0)

    def for_items(self, n_items: int) -> str:
        """The loss for a catalogue of so many items.

        >>> LossOptions(n_sample=50).for_items(100), LossOptions(n_sample=50).for_items(101), LossOptions(loss="top1").for_items(100)
        ('full', 'cross-entropy', 'top1')
        """
        if self.loss != AUTO:
            return self.loss
        return FULL if n_items <= 2 * self.n_sample else "cross-entropy"


@dataclasses.dataclass(frozen=True)
class OptimizerOptions(Options):
    """How an update moves the parameters."""

    optimizer: str = option("adagrad", "optimizer", choices=tuple(OPTIMIZERS))
    learning_rate: float = option(0.1, "length of a step", minimum=0.0)
    momentum: float = option(0.0, "momentum of the optimizer", minimum=0.0, maximum=0.999)
    weight_decay: float = option(0.0, "pull of parameters in use towards zero, times the learning rate (AdamW's with adam)", minimum=0.0)
    clip_norm: float = option(0.0, "longest gradient of an update; 0: any", minimum=0.0)
    schedule: str = option(
        AUTO,
        "learning rate over all --epochs: constant, or down to zero; "
        "auto: constant where --loss names one of GRU4Rec's, as published, else linear",
        choices=(AUTO, *SCHEDULES),
    )
    warmup_updates: int = option(0, "updates in which the learning rate rises to its full length", minimum=0)


@dataclasses.dataclass(frozen=True)
class RunOptions(Options):
    """How training runs."""

    epochs: int = option(20, "passes over the global period (at most, where validation stops earlier)", minimum=1)
    train_behaviors: tuple[str, ...] = option((), "behaviours whose events are trained on; empty: all (evaluation keeps all)")
    lanes: int = option(32, "sessions trained side by side", minimum=1)
    bptt_steps: int = option(1, "steps of a lane that the gradient passes back through; 1 as published", minimum=1)
    dropout_p_embed: float = option(0.5, "dropout of the input item rows", minimum=0.0, maximum=0.99)
    dropout_p_hidden: float = option(0.3, "dropout of each GRU layer's output", minimum=0.0, maximum=0.99)
    validation_fraction: float = option(
        0.1, "last part of the global sessions that chooses the number of epochs; 0 trains all epochs", minimum=0.0, maximum=0.5
    )
    patience: int = option(5, "validation may fail to improve for this many epochs", minimum=1)
    seed: int = option(0, "seed of everything random", minimum=0)
    report_updates: int = option(500, "updates per compiled call and line of metrics.jsonl", minimum=1, changes_result=False)
    checkpoint_updates: int = option(20_000, "updates between checkpoints inside an epoch", minimum=1, changes_result=False)
    keep_checkpoints: int = option(2, "latest checkpoints to keep, besides the best by validation", minimum=1, changes_result=False)
    tensorboard: bool = option(
        False, "write the lines of metrics.jsonl for TensorBoard too (pip install jaxrec[tensorboard])", changes_result=False
    )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All options of training."""

    loss: LossOptions = LossOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    run: RunOptions = RunOptions()

    @property
    def schedule(self) -> str:
        """How the learning rate goes over all epochs.

        >>> Recipe(loss=LossOptions(loss="bpr-max")).schedule, Recipe(loss=LossOptions(loss="full")).schedule, Recipe().schedule
        ('constant', 'linear', 'linear')
        """
        if self.optimizer.schedule != AUTO:
            return self.optimizer.schedule
        return "constant" if self.loss.loss in LOSSES else "linear"

    def rule(self, lanes: int, n_items: int) -> Rule:
        loss, optimizer = self.loss, self.optimizer
        return Rule(
            loss=loss.for_items(n_items),
            bpreg=loss.bpreg,
            elu_param=loss.elu_param,
            optimizer=optimizer.optimizer,
            momentum=optimizer.momentum,
            weight_decay=optimizer.weight_decay,
            clip_norm=optimizer.clip_norm,
            in_batch=True,
            scale=lanes * self.run.bptt_steps,
        )
