"""All options of personal models: what a device trains, what it chooses by, how users are run."""

import dataclasses

from jaxrec.errors import InputError
from jaxrec.learning.losses import FULL, LOSSES
from jaxrec.learning.optimizers import OPTIMIZERS
from jaxrec.learning.step import Rule
from jaxrec.models.recommender import LAST_AND_DENSE, TRAINABLE
from jaxrec.options import Options, option

BACKENDS = ("auto", "vmap", "map", "loop")
KEEP = ("full", "int8", "metrics")


@dataclasses.dataclass(frozen=True)
class PersonalOptions(Options):
    """What a device trains, and how."""

    trainable: str = option(LAST_AND_DENSE, "parts that a device trains; the others stay the global model's", choices=tuple(TRAINABLE))
    adapter_rank: int = option(0, "train updates of this rank instead of whole matrices; 0: whole ones", minimum=0)
    personal_epochs: int = option(3, "passes over the user's events, at most", minimum=1)
    personal_learning_rates: tuple[float, ...] = option(
        (0.001, 0.003, 0.01, 0.03), "lengths of a step that a device chooses from", minimum=0.0
    )
    personal_optimizer: str = option("adagrad", "optimizer on the device", choices=tuple(OPTIMIZERS))
    personal_momentum: float = option(0.0, "momentum of the optimizer on the device", minimum=0.0, maximum=0.999)
    personal_loss: str = option(
        "cross-entropy", "loss on the device, over its negatives; full: cross-entropy over all items", choices=(*LOSSES, FULL)
    )
    personal_n_sample: int = option(256, "negatives of each update", minimum=1)
    personal_sample_alpha: float = option(0.5, "negatives on the device are drawn from popularity to this power", minimum=0.0)
    anchor: float = option(0.0, "pull of personal parameters towards the global ones, times the learning rate (L2-SP)", minimum=0.0)
    personal_dropout_p_embed: float = option(0.0, "dropout of the input item rows on the device", minimum=0.0, maximum=0.99)
    personal_dropout_p_hidden: float = option(0.0, "dropout of each GRU layer's output on the device", minimum=0.0, maximum=0.99)
    personal_clip_norm: float = option(0.0, "longest gradient of an update on the device; 0: any", minimum=0.0)
    personal_seed: int = option(0, "seed of everything random on the devices", minimum=0)

    def __post_init__(self):
        super().__post_init__()
        if not self.personal_learning_rates:
            raise InputError("--personal_learning_rates: expected at least one value; got none")

    @property
    def rule(self) -> Rule:
        return Rule(
            loss=self.personal_loss,
            optimizer=self.personal_optimizer,
            momentum=self.personal_momentum,
            anchor=self.anchor,
            clip_norm=self.personal_clip_norm,
            in_batch=False,
        )


@dataclasses.dataclass(frozen=True)
class ChoiceOptions(Options):
    """How a device decides whether its own model is better: do no harm."""

    holdout_fraction: float = option(
        0.25, "last part of own sessions that the device chooses by; 0: it takes what is best for most users", minimum=0.0, maximum=0.9
    )
    holdout_margin: float = option(0.5, "a personal model must beat the global one by this many standard errors", minimum=0.0)
    holdout_strength: float = option(
        20.0, "the mean gain of other users counts like that of so many more held-out predictions", minimum=0.0
    )
    validation_users: int = option(500, "users whose validation sessions say what is best for most", minimum=1)
    history_prior: bool = option(True, "learn what own clicks say beside the network, and use it where it clearly helps")


@dataclasses.dataclass(frozen=True)
class UserRunOptions(Options):
    """What users' devices are given, and how users are run."""

    replay: str = option(
        "own", "a user's events to train on: all own earlier ones, or those of the personal period", choices=("own", "personal")
    )
    personal_negatives: str = option(
        "all",
        "items that negatives are drawn from: all, or the user's candidates, picked before, and own items (candidates), as on a device "
        "that holds the rows of no others",
        choices=("all", "candidates"),
    )
    block_rows: int = option(4, "sessions per update", minimum=1)
    block_steps: int = option(8, "events of a session per update; longer sessions go on in the next one", minimum=1)
    users_at_once: int = option(256, "users per compiled call, and per chunk of the store", minimum=1)
    personal_backend: str = option(
        "auto", "how users run: vmap, map (sequential scan), loop (Python); auto: by accelerator", choices=BACKENDS, changes_result=False
    )
    keep: str = option("full", "what the store keeps of each user: all parameters, their int8 difference, or metrics alone", choices=KEEP)
    update_every: int = option(
        0, "also tell what it is worth that devices fine-tune again after so many events of the test period; 0: do not", minimum=0
    )

    def __post_init__(self):
        super().__post_init__()
        if self.update_every and self.keep == "metrics":
            raise InputError("--update_every: expected a store of parameters to go on from (--keep=full or int8); got --keep=metrics")


@dataclasses.dataclass(frozen=True)
class PersonalRecipe:
    """All options of personal models."""

    training: PersonalOptions = PersonalOptions()
    choice: ChoiceOptions = ChoiceOptions()
    run: UserRunOptions = UserRunOptions()

    def __post_init__(self):
        if self.run.personal_negatives == "candidates" and self.training.personal_loss == FULL:
            raise InputError(f"--personal_negatives=candidates: expected a loss over negatives; got --personal_loss={FULL}")
