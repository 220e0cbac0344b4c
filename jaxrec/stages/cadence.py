"""What it is worth that devices fine-tune again and again: every user's test sessions in order of time, predicted first, then learnt from.

A device that has seen `update_every` new events since it last fine-tuned does so again as soon as no session is running: on the sessions
since then alone, from the parameters it has, with the rate and the epochs that it chose at first. Nothing is held out here; an app's
`jaxrec.device.learner` does so first, and goes back where an update does not help. The sessions between two updates are a
round: they are predicted with the parameters of the rounds before them. Users stream through in chunks, each through all of its rounds;
cut short, a run goes on with the chunks that are not there yet.

Dimensions: U users of a chunk, P predictions.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from jaxrec.data.dataset import Dataset
from jaxrec.data.subset import only
from jaxrec.data.user_blocks import UserEvents, joined, plan_users, user_events
from jaxrec.evaluation.metrics import per_prediction
from jaxrec.evaluation.networks import stack_users
from jaxrec.evaluation.ranks import Ranks
from jaxrec.evaluation.scorer import Scorer
from jaxrec.evaluation.users import by_user, gains
from jaxrec.learning.personal_recipe import UserRunOptions
from jaxrec.learning.personalize import Device, drawn_shares, personal_sampler, refit
from jaxrec.learning.processes import leads, wait_for_all
from jaxrec.models.recommender import Params
from jaxrec.stages.choice import Choice
from jaxrec.stages.personal_run import PersonalRun
from jaxrec.stages.store import Store, Stored, read_ranks, write_ranks

FOLDER = "cadence"
"""Where in the store the ranks of updated models lie, chunk by chunk."""

SHOWN = ("before", "before_with_history", "fixed", "fixed_with_history", "updated", "updated_with_history")
"""The global model, the networks that devices chose by their own hold-out and never change, and those that they update; each without and
with the history prior. These networks are what ships where validation found that they help at all."""

JUDGED_BY = ("recall@20", "mrr@20")

Ranker = Callable[[Dataset, Scorer, np.ndarray], dict[str, Ranks]]
"""From a dataset, users' models and session numbers to the ranks "updated" and, where there is a prior, "updated_with_history"."""


class Devices(NamedTuple):
    """Where all users' devices stand when the test period begins.

    Attributes:
      store: personal parameters, of users alone whose device uses them.
      rates, epochs: to fine-tune with, [users].
    """

    store: Store
    rates: np.ndarray
    epochs: np.ndarray


def devices_of(stored: Sequence[Stored], choice: Choice, store: Store) -> Devices:
    """Devices after the fine-tuning in a finished store.

    A device whose hold-out kept the global network does not fine-tune later either; a new user's does what helped most others, if anything
    did.
    """
    users, (rate, epochs_of_most) = len(store.index), choice.best
    helped = float(np.max(choice.advice.gains)) > 0
    rates, epochs = np.full(users, rate, np.float32), np.full(users, epochs_of_most if helped else 0, np.int32)
    improved = np.zeros(users, bool)
    for one in stored:
        for own, name in ((rates, "rate"), (epochs, "epochs"), (improved, "improved")):
            own[one.users] = one.columns[name]
        epochs[one.users] *= one.columns["improved"]
    return Devices(dataclasses.replace(store, index=np.where(improved[:, np.newaxis], store.index, -1)), rates, epochs)


def updates_before(dataset: Dataset, update_every: int) -> np.ndarray:
    """How many updates the user's device has done when each session of the test period starts, [sessions]; 0 without a user.

    An update comes once the sessions since the last one hold `update_every` events and all of the user's sessions are over.
    """
    test = dataset.period("test")
    users = np.asarray(dataset.users[test.start : test.stop])
    order = np.argsort(users, kind="stable")[(users < 0).sum() :]
    own, bounds = users[order], dataset.offsets[test.start : test.stop + 1]
    events = np.diff(bounds)[order]
    seen = np.cumsum(events) - events
    idle = _idle(own, dataset.times[bounds[:-1][order]], dataset.times[bounds[1:][order] - 1])
    # From any session to the first one that may follow an update, were the last update right before it.
    following = np.append(idle, len(own))[np.searchsorted(seen[idle], seen + update_every)]
    end = np.searchsorted(own, own, side="right")
    begins = np.zeros(len(own), np.int64)
    first = now = np.flatnonzero(np.diff(own, prepend=-1))
    while len(now):
        now = following[now][following[now] < end[now]]
        begins[now] = 1
    done = np.cumsum(begins)
    updates = np.zeros(len(test), np.int64)
    updates[order] = done - np.repeat(done[first], np.diff(first, append=len(own)))
    return updates


def _idle(own: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Places of the sessions before whose start all earlier ones of the user are over; sessions user by user, in order of their start."""
    low = starts.min(initial=0)
    # Time goes on from user to user, so that one running maximum serves all.
    later = own * (ends.max(initial=0) - low + 1) - low
    over = np.maximum.accumulate(ends + later)
    return np.flatnonzero(starts + later >= np.concatenate([starts[:1] + later[:1], over[:-1]]))


def follow(job: PersonalRun, devices: Devices, rank: Ranker) -> dict[str, Ranks]:
    """Ranks of all users' test predictions by models that are updated on the way, by the names that `rank` gives them.

    What a chunk gives is kept in the store; of several processes each takes its own chunks.
    """
    dataset, recipe = job.dataset, job.recipe
    model, run, test = job.trained.model, recipe.run, dataset.period("test")
    shared, start = job.split()
    source = personal_sampler(dataset.item_counts, recipe.training)
    shares = drawn_shares(dataset.item_counts, recipe.training)

    def learn(number: int, own: Device, events: UserEvents) -> tuple[np.ndarray, Params]:
        given = (model, recipe.training, shared, start, source, number, own)
        return refit(*given, job.knowing(events, shares, test.start), run.personal_backend, job.mesh)

    updates, histories = updates_before(dataset, run.update_every), job.histories
    chunks = _chunks(dataset, updates, run.users_at_once)
    folder = devices.store.folder / FOLDER / f"every-{run.update_every}"
    paths = [folder / f"chunk-{number:06d}.npz" for number in range(len(chunks))]

    def predict(part: Dataset, users: np.ndarray, params: Params, sessions: np.ndarray) -> dict[str, Ranks]:
        return rank(part, stack_users(model, shared, start, [(users, params)], dataset.n_users), sessions)

    own = range(jax.process_index(), len(chunks), jax.process_count())
    for number in tqdm(own, desc="updating", unit="chunk", disable=None if leads() else True, leave=False):
        if paths[number].exists():
            continue
        sessions = np.sort(histories.sessions_of_each(chunks[number], 0, test.stop)[0])
        rounds = updates[sessions[sessions >= test.start] - test.start]
        found = _follow_chunk(only(dataset, sessions), rounds, chunks[number], devices, run, predict, learn)
        write_ranks(paths[number], {name: _numbered(one, sessions) for name, one in found.items()})
    wait_for_all("all users are updated")
    return _joined([read_ranks(path) for path in paths])


def _chunks(dataset: Dataset, updates: np.ndarray, users_at_once: int) -> list[np.ndarray]:
    """Users with test sessions, in chunks of about one size; who has as many rounds goes together, so that rounds are full."""
    test = dataset.period("test")
    most = np.full(dataset.n_users + 1, -1)
    np.maximum.at(most, dataset.users[test.start : test.stop], updates)  # nobody, -1, is the last
    users = np.argsort(most[:-1], kind="stable")[(most[:-1] < 0).sum() :]
    width = -(-len(users) // max(1, -(-len(users) // users_at_once)))
    return [np.sort(users[at : at + width]) for at in range(0, len(users), max(1, width))]


def _follow_chunk(
    dataset: Dataset,
    rounds: np.ndarray,
    users: np.ndarray,
    devices: Devices,
    run: UserRunOptions,
    predict: Callable[..., dict[str, Ranks]],
    learn: Callable[..., tuple[np.ndarray, Params]],
) -> dict[str, Ranks]:
    """Ranks of the test predictions of some users, round by round: all of a round are predicted before any of it is learnt from.

    Args:
      dataset: the sessions of these users alone.
      rounds: of each of its test sessions.
      users: their indices, growing, [U].
      predict: from (dataset, users, parameters [U, ...], session numbers) to ranks; `learn`: `refit` from its number on.
    """
    params, test = devices.store.params(users), dataset.period("test")
    found = []
    for number in range(rounds.max() + 1):
        now, later = (test.start + np.flatnonzero(which) for which in (rounds == number, rounds > number))
        found.append(predict(dataset, users, params, now))
        learnt = only(dataset, now)
        plan = plan_users(
            learnt, np.unique(dataset.users[later]), 0, learnt.n_sessions, run.block_rows, run.block_steps, 0.0, run.users_at_once
        )
        if not len(plan):
            continue
        events = joined([user_events(learnt, plan, chunk) for chunk in range(len(plan))], len(users))
        slots = np.searchsorted(users, events.user)
        own = Device(jax.tree.map(lambda leaf, slots=slots: leaf[slots], params), devices.rates[events.user], devices.epochs[events.user])
        who, fitted = learn(number, own, events)
        jax.tree.map(partial(_put, np.searchsorted(users, who)), params, fitted)
    return _joined(found)


def _numbered(ranks: Ranks, sessions: np.ndarray) -> Ranks:
    """Ranks of a part of a dataset, with the session numbers of the whole."""
    return dataclasses.replace(ranks, sessions=sessions[ranks.sessions].astype(np.int32))


def _put(slots: np.ndarray, leaf: np.ndarray, rows: np.ndarray) -> None:
    leaf[slots] = rows


def _joined(parts: Sequence[Mapping[str, Ranks]]) -> dict[str, Ranks]:
    """Ranks of different predictions as one, by name; order: by session, then by step."""
    found = {}
    for name in parts[0] if parts else ():
        columns = {field: np.concatenate([getattr(part[name], field) for part in parts]) for field in vars(parts[0][name])}
        order = np.lexsort((columns["steps"], columns["sessions"]))
        found[name] = Ranks(**{field: column[order] for field, column in columns.items()})
    return found


def _chosen(own: np.ndarray, tuned: Ranks, other: Ranks) -> Ranks:
    """Ranks of the same predictions by users' own models where they have one, [P] bool."""
    return dataclasses.replace(other, **{name: np.where(own, getattr(tuned, name), getattr(other, name)) for name in ("greater", "equal")})


def cadence(ranks: Mapping[str, Ranks], updated: Mapping[str, Ranks], own: np.ndarray, updates: np.ndarray) -> dict[str, Any]:
    """What updates are worth, on the same predictions: a row per number of updates done before, and all together.

    Args:
      ranks: "before" and "fine_tuned", and both "_with_history".
      updated: what `follow` found.
      own: whether the prediction's user has a model of its own without updates, [P].
      updates: done before the prediction, [P].

    Returns:
      {"cadence": rows, "cadence_total": the same of all rows with intervals, over users, of what the updates gain}.
    """
    before, plain = ranks["before"], updated.get("updated", ranks["before"])
    found = {
        "before": before,
        "before_with_history": ranks["before_with_history"],
        "fixed": _chosen(own, ranks["fine_tuned"], before),
        "fixed_with_history": _chosen(own, ranks["fine_tuned_with_history"], ranks["before_with_history"]),
        "updated": plain,
        "updated_with_history": updated.get("updated_with_history", plain),
    }
    values = {name: per_prediction(one.values()) for name, one in found.items()}
    users = np.unique(before.users)
    sums = {name: by_user(one, users) for name, one in found.items()}

    def row(which: np.ndarray) -> dict[str, Any]:
        n = int(which.sum())
        means = {name: {metric: float(one[metric][which].sum() / max(n, 1)) for metric in JUDGED_BY} for name, one in values.items()}
        return {"users": len(np.unique(before.users[which])), "predictions": n, **means}

    total = {
        **row(np.ones(len(updates), bool)),
        "gain_ci95": gains(sums["fixed_with_history"], sums["updated_with_history"], JUDGED_BY),
        "network_gain_ci95": gains(sums["fixed"], sums["updated"], JUDGED_BY),
    }
    return {"cadence": [{"updates": int(n), **row(updates == n)} for n in np.unique(updates)], "cadence_total": total}
