"""What devices are told before they choose for themselves, learnt inside the global period without a look at later ones.

Validation rehearses the test: the last part of the global period stands for it, as a dataset of its own (`jaxrec.data.subset.rehearsal`).

The model that has not seen the last part of the global period is fine-tuned on users' sessions before it and judged on those in it:
which learning rate and how many epochs help other users, by how much, and what own clicks say beside the network. Where negatives are
candidates, these alone were picked by later events too, all of them before the test period.

Dimensions: U users, R learning rates, E epochs.
"""

import dataclasses
import logging
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrec.data.dataset import Dataset
from jaxrec.data.subset import rehearsal
from jaxrec.data.user_blocks import plan_users, user_events
from jaxrec.evaluation.networks import GlobalScorer, PersonalScorer, stack_users
from jaxrec.learning.personal_recipe import PersonalRecipe
from jaxrec.learning.personalize import Advice, Personal, drawn_shares, no_advice, personal_sampler, personalize
from jaxrec.stages.history import FEWEST_USERS, OFF, Learnt, learn_history
from jaxrec.stages.personal_run import PersonalRun
from jaxrec.stages.train import Trained

log = logging.getLogger("jaxrec")

DIVERGED = -1e6
"""Fall of a loss that is not a number any more."""

SHAPES = 2
"""Shapes of the few users whose validation sessions are asked."""

RATES_OF_A_DEVICE = 2
"""Learning rates that a device chooses from: those that helped others most. More would cost it time and choose by chance."""


class Choice(NamedTuple):
    """What validation says.

    Attributes:
      advice: to each device.
      learnt: the history prior, and whether fine-tuned networks are to be used at all.
      trials: figures behind the advice, by rate and epochs.
    """

    advice: Advice
    learnt: Learnt = Learnt(OFF, True, ())
    trials: tuple[dict, ...] = ()

    @property
    def history(self) -> tuple[float, ...]:
        """Weights of the history prior; all zero where it is off."""
        return self.learnt.history

    def as_json(self) -> dict:
        """In the form of a JSON file."""
        rates, gains = (np.asarray(part).tolist() for part in self.advice)
        return {"advice": {"rates": rates, "gains": gains}, "learnt": self.learnt._asdict(), "trials": self.trials}

    @staticmethod
    def from_json(said: dict) -> "Choice":
        """What `as_json` wrote."""
        advice = Advice(*(jnp.asarray(said["advice"][name], jnp.float32) for name in ("rates", "gains")))
        learnt = Learnt(tuple(said["learnt"]["history"]), said["learnt"]["fine_tuned"], tuple(said["learnt"]["trials"]))
        return Choice(advice, learnt, tuple(said["trials"]))

    @property
    def best(self) -> tuple[float, int]:
        """Learning rate and epochs that helped other users most."""
        gains = np.asarray(self.advice.gains)
        rate, epochs = np.unravel_index(gains.argmax(), gains.shape)
        return float(self.advice.rates[rate]), int(epochs) + 1


def choose(job: PersonalRun) -> Choice:
    """Learn from validation sessions of users who have earlier ones; without such, devices go by their own hold-out alone."""
    dataset, trained, recipe = job.dataset, job.trained, job.recipe
    users = _returning(dataset, trained, recipe)
    if len(users) < FEWEST_USERS:
        log.warning(
            "fewer than %d returning users in validation: devices go by their own sessions alone, without history prior", FEWEST_USERS
        )
        return Choice(no_advice(recipe.training))
    own = np.flatnonzero(np.isin(dataset.users[: dataset.period("global").stop], users))
    dataset = rehearsal(dataset, trained.validation_start, own)
    job = dataclasses.replace(job, dataset=dataset)
    choice = _advise(job, users)
    tuned = _best_scorer(job, users, choice)
    plain, late = GlobalScorer(trained.model, trained.selection), np.array(dataset.period("test"))
    return choice._replace(learnt=learn_history(dataset, plain, tuned, late, job.popular, recipe.choice.history_prior))


def _returning(dataset: Dataset, trained: Trained, recipe: PersonalRecipe) -> np.ndarray:
    """Up to `validation_users` users of validation sessions who clicked before them, two events or more in a session of both kinds."""
    if trained.selection is None:
        return np.zeros(0, np.int32)
    start, stop = trained.validation_start, dataset.period("global").stop
    early = dataset.users[:start][np.diff(dataset.offsets[: start + 1]) > 1]
    users = np.intersect1d(early, rehearsal(dataset, start, np.arange(start, stop)).users)
    generator = np.random.default_rng(recipe.training.personal_seed)
    return np.sort(generator.permutation(users[users >= 0])[: recipe.choice.validation_users])


def _advise(job: PersonalRun, users: np.ndarray) -> Choice:
    """The fall of a prediction's loss by rate and epochs: its mean over predictions less one standard error over users."""
    advice = no_advice(job.recipe.training)
    # Any fraction but 0 does: what is held out here are the validation sessions.
    recipe = dataclasses.replace(job.recipe, choice=dataclasses.replace(job.recipe.choice, holdout_fraction=0.5))
    found = _fit(dataclasses.replace(job, recipe=recipe), users, advice, job.dataset.n_sessions)
    falls, held = (np.concatenate([getattr(result, name) for _, result in found]) for name in ("falls", "held"))
    falls = np.where(np.isfinite(falls).all(0), falls, DIVERGED)  # a rate that breaks one user is no good for any
    mean = falls.sum(0) / max(held.sum(), 1)
    error = np.sqrt(np.square(falls - mean[None] * held[:, None, None]).sum(0)) / max(held.sum(), 1)
    trials = [
        {"learning_rate": float(rate), "epochs": epochs + 1, "fall_of_loss": float(mean[i, epochs]), "error": float(error[i, epochs])}
        for i, rate in enumerate(advice.rates)
        for epochs in range(mean.shape[1])
    ]
    best = np.sort(np.argsort(-(mean - error).max(1), kind="stable")[:RATES_OF_A_DEVICE])
    return Choice(Advice(advice.rates[best], jnp.asarray((mean - error)[best], jnp.float32)), trials=tuple(trials))


def _best_scorer(job: PersonalRun, users: np.ndarray, choice: Choice) -> PersonalScorer:
    """Each user's own model before the validation sessions, trained as was best for most."""
    (rate, epochs), recipe, trained = choice.best, job.recipe, job.trained
    training = dataclasses.replace(recipe.training, personal_learning_rates=(rate,), personal_epochs=epochs)
    recipe = dataclasses.replace(recipe, training=training, choice=dataclasses.replace(recipe.choice, holdout_fraction=0.0))
    found = _fit(dataclasses.replace(job, recipe=recipe), users, no_advice(training), job.dataset.period("test").start)
    shared, start = trained.model.split(trained.selection)
    return stack_users(trained.model, shared, start, [(own, result.params) for own, result in found], job.dataset.n_users)


def _fit(job: PersonalRun, users: np.ndarray, advice: Advice, before: int) -> list[tuple[np.ndarray, Personal]]:
    """Users by chunk, fine-tuned on their sessions before number `before`, of which those of the test period are held out."""
    dataset, trained, recipe = job.dataset, job.trained, job.recipe
    shared, start = trained.model.split(trained.selection)
    counts, late = dataset.item_counts, dataset.period("test").start
    source, shape = personal_sampler(counts, recipe.training), (recipe.run.block_rows, recipe.run.block_steps)
    plan = plan_users(dataset, users, 0, before, *shape, 0.0, recipe.run.users_at_once, late, SHAPES)
    fit = (trained.model, recipe.training, recipe.choice, shared, start, source, advice)
    shares = drawn_shares(counts, recipe.training)
    chunks = (job.knowing(user_events(dataset, plan, number), shares, late) for number in range(len(plan)))
    return [personalize(*fit, events, recipe.run.personal_backend) for events in chunks]
