"""Fine-tune every user's own model and say for whom it helped: the same predictions before, after, and by what needs no network.

Users stream through in chunks: a chunk is fine-tuned, ranks its users' test sessions, and is written; then it is forgotten. Cut short, a
run goes on with the chunks that are not there yet. Several processes take turns at the chunks of one plan.
"""

import dataclasses
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from jax.sharding import Mesh
from tqdm import tqdm

from jaxrec.baselines.registry import BASELINES
from jaxrec.data.blocks import Histories, session_blocks
from jaxrec.data.dataset import Dataset
from jaxrec.data.own_history import FEATURES
from jaxrec.data.storage import fingerprint, load_users
from jaxrec.data.user_blocks import UserEvents, UserPlan, plan_users, user_events, users_of
from jaxrec.errors import InputError
from jaxrec.evaluation.groups import own_events
from jaxrec.evaluation.metrics import metrics
from jaxrec.evaluation.networks import GlobalScorer, WithHistory, stack_users
from jaxrec.evaluation.ranks import Ranks, predictions_at_once, rank_by_all
from jaxrec.evaluation.scorer import Scorer
from jaxrec.evaluation.users import better_same_worse, by_user, gains
from jaxrec.files import read_json, sha256, whole_file, write_json
from jaxrec.learning.personal_recipe import PersonalRecipe
from jaxrec.learning.personalize import Personal, drawn_shares, personal_sampler, personalize
from jaxrec.learning.processes import leads, lost_process_named, wait_for_all
from jaxrec.models.recommender import bytes_of
from jaxrec.stages.cadence import cadence, devices_of, follow, updates_before
from jaxrec.stages.candidates import RESULT as CANDIDATES
from jaxrec.stages.candidates import load_candidates
from jaxrec.stages.choice import Choice, choose
from jaxrec.stages.once import differences, go_on_or_begin, once, settings_of
from jaxrec.stages.personal_run import PersonalRun
from jaxrec.stages.store import (
    COLUMNS,
    CONTENT,
    RANKS,
    Stored,
    as_kept,
    chunk_folder,
    finish_store,
    is_finished,
    open_store,
    read_chunk,
    read_ranks,
    write_chunk,
)
from jaxrec.stages.train import Trained, load_trained

log = logging.getLogger("jaxrec")

RESULT = Path("personal/metrics.json")
STORE = Path("personal/store")
HISTORY = "features of the history prior"
COMPARED = ("markov", "user_history", "markov_user_history")
"""Baselines that a personal model has to beat."""
SHOWN = ("before", "before_with_history", "fine_tuned", "fine_tuned_with_history", "after")
"""Rankers of every user's test sessions: the global model, with the history prior, the personal model, with it, and what devices ship."""


def run_personalize(
    dataset: Dataset,
    workdir: Path,
    recipe: PersonalRecipe,
    overwrite: bool = False,
    references: Mapping[str, Scorer] | None = None,
    mesh: Mesh | None = None,
) -> dict:
    """Personalise, compare on the test period, and write `workdir`/personal: store, users.parquet, metrics.json (returned).

    In several processes all of them call this; the first writes what is written once.

    Args:
      references: more scorers to rank the same predictions with, by name; best_from_history tells the attainable gain.
      mesh: devices of this process that share the users of a chunk.
    """
    trained = load_trained(workdir, dataset).trains(recipe.training.trainable, recipe.training.adapter_rank)
    inputs, candidates = {"dataset": fingerprint(dataset.manifest), "model": trained.fingerprint, HISTORY: ", ".join(FEATURES)}, None
    if recipe.run.personal_negatives == "candidates" and dataset.n_users:
        candidates = load_candidates(workdir, dataset)
        inputs["candidates"] = sha256(workdir / CANDIDATES)
    settings = settings_of(recipe.training, recipe.choice, recipe.run)
    # What is done beside the store does not make its chunks others.
    of_store = {name: value for name, value in settings.items() if name != "update_every"}
    trained.model.split(trained.params)  # refused before anything waits for it

    def work() -> dict:
        if not dataset.n_users:
            return {"personal": None}
        with lost_process_named(str(workdir / STORE), lambda: "finished chunks are kept"):
            go_on_or_begin(workdir / STORE, {"settings": of_store, "inputs": inputs}, CONTENT, overwrite)
            return _personalize(PersonalRun(dataset, trained, recipe, candidates, mesh), workdir, references or {})

    return once(workdir / RESULT, settings, _compared_with(workdir, references, settings, inputs), overwrite, work)


def _compared_with(workdir: Path, references: Mapping[str, Scorer] | None, settings: dict, inputs: dict[str, str]) -> dict[str, str]:
    """The inputs and the names of the references; where none are given, those of an earlier run that holds all else that is asked for."""
    if not references and (workdir / RESULT).exists():
        written = read_json(workdir / RESULT, "result of `personalize`")
        more = inputs | {"references": written["inputs"].get("references", "")}
        if not differences(written, {"settings": settings, "inputs": more}):
            return more
    return inputs | {"references": ", ".join(references or {})}


def load_personal(workdir: Path, trained: Trained) -> dict:
    """What `run_personalize` wrote, for this global model.

    Raises:
      InputError: it did not run, started from another global model, or knew other features of own items.
    """
    result = read_json(workdir / RESULT, "result of `personalize`")
    if result["inputs"]["model"] != trained.fingerprint:
        raise InputError(f"{workdir / RESULT}: expected personal models of the global model in {workdir}; they started from another one")
    if len(result.get("history", FEATURES)) != len(FEATURES):
        raise InputError(f"{workdir / RESULT}: expected weights of {', '.join(FEATURES)}; personalize again, with --overwrite")
    return result


def as_trained_on_devices(workdir: Path, trained: Trained) -> tuple[Trained, dict]:
    """(the global model with the parts that users' devices train, what `load_personal` gives)."""
    result = load_personal(workdir, trained)
    return trained.trains(result["settings"]["trainable"], result["settings"]["adapter_rank"]), result


def _personalize(job: PersonalRun, workdir: Path, references: Mapping[str, Scorer]) -> dict:
    choice = _choice(job, workdir / STORE / "choice.json")
    log.info("best for most users: learning rate %g, %d epochs", *choice.best)
    dataset, trained, recipe = job.dataset, job.trained, job.recipe
    run, test = recipe.run, dataset.period("test")
    first = dataset.period("personal").start if recipe.run.replay == "personal" else 0
    shape = (run.block_rows, run.block_steps, recipe.choice.holdout_fraction, run.users_at_once)
    plan = plan_users(dataset, np.arange(dataset.n_users), first, test.start, *shape)
    if not len(plan):
        log.warning("no user has two events in a session of the period that devices train on: all get the global network")
    _fill_store(job, choice, plan, workdir / STORE)
    wait_for_all("all users are fine-tuned")
    folders = [chunk_folder(workdir / STORE, number) for number in range(len(plan))]
    stored = [read_chunk(folder) for folder in folders]
    ships = _ships_own(dataset.n_users, choice, stored)
    ranks = _ranks(job, choice, ships, (read_ranks(folder / RANKS) for folder in folders)) | _more_ranks(dataset, references)
    table = _user_table(dataset, ships, stored, ranks)
    if leads():
        finish_store(workdir / STORE, dataset.n_users, dict(enumerate(one.users for one in stored)))
        _write_table(workdir / RESULT.parent / "users.parquet", table)
    wait_for_all("the store is finished")
    return {
        **_compare(ranks, table),
        **_account(trained, recipe, choice, plan, stored),
        **_attainable(ranks, references),
        **(_cadence(job, workdir / STORE, choice, stored, ranks) if recipe.run.update_every else {}),
    }


def _cadence(job: PersonalRun, store: Path, choice: Choice, stored: list[Stored], ranks: Mapping[str, Ranks]) -> dict[str, Any]:
    """What it is worth that devices go on fine-tuning in the test period."""
    dataset, trained = job.dataset, job.trained
    devices = devices_of(stored, choice, open_store(store, trained.model.split(trained.params)[1]))

    def rank(part: Dataset, scorer: Scorer, sessions: np.ndarray) -> dict[str, Ranks]:
        return _rank(part, {"updated": scorer}, choice, job.popular, sessions)

    updated, before = follow(job, devices, rank), ranks["before"]
    done = updates_before(dataset, job.recipe.run.update_every)[before.sessions - dataset.period("test").start]
    return cadence(ranks, updated, devices.store.has(before.users), done)


def _choice(job: PersonalRun, path: Path) -> Choice:
    """What validation says: found once, the same in all processes and when a run goes on."""
    if leads() and not path.exists():
        write_json(path, choose(job).as_json())
    wait_for_all("validation was asked")
    return Choice.from_json(read_json(path, "choice of an earlier run"))


def _fill_store(job: PersonalRun, choice: Choice, plan: UserPlan, store: Path) -> None:
    """Fine-tune and rank the chunks that are not there yet; of several processes each takes its own."""
    dataset, trained, recipe = job.dataset, job.trained, job.recipe
    shared, start = job.split()
    source = personal_sampler(dataset.item_counts, recipe.training)
    own = range(jax.process_index(), len(plan), jax.process_count())
    missing = [number for number in own if not is_finished(chunk_folder(store, number), users_of(plan, number))]
    if len(missing) < len(own):
        log.info("%s: going on, %d of %d chunks are there", store, len(own) - len(missing), len(own))
    histories, test, compiled = job.histories, dataset.period("test"), set()
    shares = drawn_shares(dataset.item_counts, recipe.training)

    def fit(events: UserEvents) -> tuple[np.ndarray, Personal]:
        given = (trained.model, recipe.training, recipe.choice, shared, start, source, choice.advice, events)
        return personalize(*given, recipe.run.personal_backend, job.mesh)

    silent = None if leads() else True
    with tqdm(
        total=sum(len(users_of(plan, number)) for number in missing), desc="fine-tuning", unit="user", disable=silent, leave=False
    ) as bar:
        for number in missing:
            events = job.knowing(user_events(dataset, plan, number), shares, test.start)
            if (shapes := tuple(np.shape(leaf) for leaf in jax.tree.leaves(events))) not in compiled:
                compiled.add(shapes)
                fit(jax.tree.map(np.zeros_like, events))  # so that compilation does not count as fine-tuning
            began = time.perf_counter()
            users, result = fit(events)
            seconds = time.perf_counter() - began
            result = result._replace(params=as_kept(recipe.run.keep, start, result.params))
            scorer = stack_users(trained.model, shared, start, [(users, result.params)], dataset.n_users)
            sessions, _ = histories.sessions_of_each(users, test.start, test.stop)
            ranks = _rank(dataset, {"fine_tuned": scorer}, choice, job.popular, np.sort(sessions), histories)
            write_chunk(chunk_folder(store, number), recipe.run.keep, start, users, result, ranks, seconds)
            bar.update(len(users))


def _rank(
    dataset: Dataset,
    scorers: Mapping[str, Scorer],
    choice: Choice,
    popular: np.ndarray,
    sessions: np.ndarray,
    histories: Histories | bool = True,
) -> dict[str, Ranks]:
    """Ranks of the sessions' predictions, with and without the history prior where there is one."""
    prior = any(choice.history)
    blocks = session_blocks(dataset, sessions, predictions_at_once(dataset.n_items), prior and histories)
    more = {f"{name}_with_history": WithHistory(scorer, choice.history, popular) for name, scorer in scorers.items()} if prior else {}
    return rank_by_all({**scorers, **more}, blocks, dataset.n_items)


def _test_sessions(dataset: Dataset) -> np.ndarray:
    """Numbers of the test sessions that have a user."""
    test = dataset.period("test")
    return test.start + np.flatnonzero(dataset.users[test.start : test.stop] >= 0)


def _ships_own(n_users: int, choice: Choice, stored: list[Stored]) -> np.ndarray:
    """Whether each user's device ships its own network, because its hold-out and validation say so, [users] bool."""
    found = np.zeros(n_users, bool)
    for one in stored:
        found[one.users] = one.columns["improved"]
    return found & choice.learnt.fine_tuned


def _ranks(job: PersonalRun, choice: Choice, ships: np.ndarray, own: Iterable[dict[str, Ranks]]) -> dict[str, Ranks]:
    """Ranks of all users' test predictions by every ranker of `SHOWN`; `own` are those of the personal models, chunk by chunk."""
    dataset, trained = job.dataset, job.trained
    found = _rank(dataset, {"before": GlobalScorer(trained.model, trained.params)}, choice, job.popular, _test_sessions(dataset))
    before = found["before"]
    history = found.get("before_with_history", before)
    tuned, with_history = _copy(before), _copy(history)
    sessions, first = np.unique(before.sessions, return_index=True)
    for ranks in own:
        mine = ranks["fine_tuned"]
        place = first[np.searchsorted(sessions, mine.sessions)] + mine.steps  # predictions stand by session, then by step
        for into, part in ((tuned, mine), (with_history, ranks.get("fine_tuned_with_history", mine))):
            into.greater[place], into.equal[place] = part.greater, part.equal
    after = {name: np.where(ships[before.users], getattr(with_history, name), getattr(history, name)) for name in ("greater", "equal")}
    return dict(zip(SHOWN, (before, history, tuned, with_history, dataclasses.replace(before, **after)), strict=True))


def _copy(ranks: Ranks) -> Ranks:
    """The ranks, so that they may be changed."""
    return dataclasses.replace(ranks, greater=ranks.greater.copy(), equal=ranks.equal.copy())


def _more_ranks(dataset: Dataset, references: Mapping[str, Scorer]) -> dict[str, Ranks]:
    """Ranks of the same predictions by baselines and by whatever else is compared."""
    blocks = session_blocks(dataset, _test_sessions(dataset), predictions_at_once(dataset.n_items))
    scorers = {name: BASELINES[name](dataset, dataset.period("global")) for name in COMPARED} | dict(references)
    return rank_by_all(scorers, blocks, dataset.n_items)


def _user_table(dataset: Dataset, ships: np.ndarray, stored: list[Stored], ranks: Mapping[str, Ranks]) -> pd.DataFrame:
    """One row per user with a test prediction; metrics are means over the user's own predictions."""
    users = np.unique(ranks["before"].users)
    columns = {name: np.zeros(dataset.n_users, np.asarray(stored[0].columns[name]).dtype if stored else bool) for name in COLUMNS}
    trained = np.zeros(dataset.n_users, bool)
    for one in stored:
        trained[one.users] = True
        for name, values in one.columns.items():
            columns[name][one.users] = values
    shown = {
        "user": load_users(dataset.folder)[users],
        "own_events": own_events(dataset)[users],
        "trained": trained[users],
        "fallback": ~ships[users],
    }
    table = pd.DataFrame(shown | {name: columns[name][users] for name in ("rate", "epochs", "held")})
    for name in SHOWN:
        total = by_user(ranks[name], users)
        table["predictions"] = total["predictions"].astype(np.int64)
        for metric in ("recall@20", "mrr@20"):
            table[f"{name}_{metric}"] = total[metric] / total["predictions"]
    return table


def _write_table(path: Path, table: pd.DataFrame) -> None:
    with whole_file(path) as partial:
        table.to_parquet(partial, index=False)


def _compare(ranks: Mapping[str, Ranks], table: pd.DataFrame) -> dict[str, Any]:
    users = np.unique(ranks["before"].users)
    old = users[table["own_events"] > 0]
    apart = {"old_users": old, "new_users": np.setdiff1d(users, old)}
    return {
        **_gain(ranks, users),
        "users_trained": int(table["trained"].sum()),
        "users_fallback": float(table["fallback"].mean()) if len(table) else 0.0,
        "baselines": {name: metrics(ranks[name]) for name in COMPARED},
        **{name: _gain({shown: _of_users(ranks[shown], some) for shown in SHOWN}, some) for name, some in apart.items()},
    }


def _gain(ranks: Mapping[str, Ranks], users: np.ndarray) -> dict[str, Any]:
    """What personalisation did for some users."""
    sums = {name: by_user(ranks[name], users) for name in SHOWN}
    better, same, worse = better_same_worse(sums["before"]["recall@20"], sums["after"]["recall@20"])
    return {
        "users": len(users),
        "predictions": len(ranks["before"].users),
        **{name: metrics(ranks[name]) for name in SHOWN},
        "gain_ci95": gains(sums["before"], sums["after"]),
        "fine_tuned_gain_ci95": gains(sums["before"], sums["fine_tuned"]),
        "users_better": better,
        "users_same": same,
        "users_worse": worse,
    }


def _of_users(ranks: Ranks, users: np.ndarray) -> Ranks:
    return ranks.where(np.isin(ranks.users, users))


def _account(trained: Trained, recipe: PersonalRecipe, choice: Choice, plan: UserPlan, stored: list[Stored]) -> dict[str, Any]:
    users = sum(len(one.users) for one in stored)
    # Processes work side by side: the busiest one says how long all took.
    busy = np.bincount([one.process for one in stored], [one.seconds for one in stored]).max() if stored else 0.0
    return {
        "users_per_s": users / busy if users else 0.0,
        "users_in_store": users,
        "personal_bytes_per_user": bytes_of(trained.model.split(trained.params)[1]),
        "learning_rate": choice.best[0],
        "epochs": choice.best[1],
        "history": list(choice.history),
        "trials": list(choice.trials),
        "fine_tuned_is_used": choice.learnt.fine_tuned,
        "history_trials": list(choice.learnt.trials),
        "planning": plan.account._asdict(),
    }


def _attainable(ranks: Mapping[str, Ranks], references: Mapping[str, Scorer]) -> dict[str, Any]:
    """What the best possible rankers reach, and the share of the gain that is open to a device that the shipped models recovered: from the
    global model to the best ranker that knows the user's clicks."""
    if "best_from_history" not in references:
        return {}
    found = {name: metrics(ranks[name]) for name in references}
    before, after, best = (one["recall@20"] for one in (metrics(ranks["before"]), metrics(ranks["after"]), found["best_from_history"]))
    return {"attainable": {**found, "recovered": (after - before) / (best - before) if best > before else None}}
