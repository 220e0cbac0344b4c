"""Choosing the personal learning rate and the weight of the history prior, without a look at the later periods.

The model that has not seen the last part of the global period is fine-tuned on each user's sessions before it and judged on those in it.
"""

import logging
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.blocks import session_blocks
from jaxrec.data.dataset import Dataset
from jaxrec.evaluation.metrics import metrics
from jaxrec.evaluation.networks import GlobalScorer, PersonalScorer, WithHistory
from jaxrec.evaluation.ranks import predictions_at_once, rank_sessions
from jaxrec.evaluation.scorer import Scorer
from jaxrec.learning.personalize import Personal, PersonalOptions, personal_sampler, personalize, user_chunks
from jaxrec.models.recommender import Params
from jaxrec.stages.store import slots_in, slots_of
from jaxrec.stages.train import Trained

log = logging.getLogger("jaxrec")


class Choice(NamedTuple):
    """What validation chose, and every trial behind it."""

    learning_rate: float
    history_weight: float
    trials: list[dict]


def choose(dataset: Dataset, trained: Trained, options: PersonalOptions) -> Choice:
    """Pick rate and weight by Recall@20 x MRR@20 on validation sessions of users who have earlier ones.

    A product asks for relative gains of both: neither can be bought with the other. Without validation data the
    lowest rate and no prior are taken.
    """
    sessions = _validation_sessions(dataset, trained, options)
    if trained.selection is None or not len(sessions):
        log.warning("no validation sessions of returning users: the lowest of --personal_learning_rates is taken, and no history prior")
        return Choice(min(options.personal_learning_rates), 0.0, [])
    blocks = list(session_blocks(dataset, sessions, predictions_at_once(dataset.n_items)))
    trials: list[dict] = []

    def judge(scorer: Scorer, **setting) -> float:
        measured = metrics(rank_sessions(scorer, blocks, dataset.n_items))
        trials.append({**setting, **{name: measured[name] for name in ("recall@20", "mrr@20", "predictions")}})
        return measured["recall@20"] * measured["mrr@20"]

    shared, start = trained.model.split(trained.selection)
    judge(GlobalScorer(trained.model, trained.selection), learning_rate=None, history_weight=0.0)
    scorers = {
        rate: _personal_scorer(dataset, trained, options, shared, start, sessions, rate) for rate in sorted(options.personal_learning_rates)
    }
    rate = max(scorers, key=lambda rate: judge(scorers[rate], learning_rate=rate, history_weight=0.0))
    weight = max(
        sorted(options.history_weights),
        key=lambda weight: judge(WithHistory(scorers[rate], weight), learning_rate=rate, history_weight=weight),
    )
    return Choice(rate, weight, trials)


def _validation_sessions(dataset: Dataset, trained: Trained, options: PersonalOptions) -> np.ndarray:
    """Validation sessions of up to `validation_users` users who clicked before."""
    sessions = np.arange(trained.validation_start, dataset.period("global").stop)
    users = dataset.users[sessions]
    returning = np.intersect1d(users, dataset.users[: trained.validation_start])
    returning = returning[returning >= 0]
    generator = np.random.default_rng(options.personal_seed)
    chosen = generator.permutation(returning)[: options.validation_users]
    return sessions[np.isin(users, chosen)]


def _personal_scorer(
    dataset: Dataset, trained: Trained, options: PersonalOptions, shared: Params, start: Params, sessions: np.ndarray, rate: float
) -> PersonalScorer:
    before = trained.validation_start
    counts = np.bincount(dataset.items[: dataset.offsets[before]], minlength=dataset.n_items)
    chunks = user_chunks(dataset, np.unique(dataset.users[sessions]), 0, before, options)
    found = list(personalize(trained.model, options, shared, start, personal_sampler(counts, options), chunks, rate))
    return personal_scorer(trained, shared, start, found, dataset.n_users)


def personal_scorer(
    trained: Trained, shared: Params, start: Params, found: list[tuple[np.ndarray, Personal]], n_users: int, gated: bool = True
) -> PersonalScorer:
    """Each fine-tuned user's own model, the global one for everyone else and, where `gated`, for those whose hold-out disagreed."""
    users, improved = slots_in(found)
    stack = jax.tree.map(
        lambda first, *rest: jnp.asarray(np.concatenate([np.asarray(first)[None], *rest])), start, *(result.params for _, result in found)
    )
    slots = slots_of(users, improved | (not gated), n_users)
    return PersonalScorer(trained.model, shared, stack, slots)
