"""Fine-tune every user's own model and say for whom it helped: the same predictions before, after, and by what needs no network."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from tqdm import tqdm

from jaxrec.baselines.registry import BASELINES
from jaxrec.data.blocks import Histories, session_blocks
from jaxrec.data.dataset import Dataset
from jaxrec.data.storage import load_users
from jaxrec.errors import InputError
from jaxrec.evaluation.metrics import metrics
from jaxrec.evaluation.networks import GlobalScorer, WithHistory
from jaxrec.evaluation.ranks import Ranks, predictions_at_once, rank_sessions
from jaxrec.evaluation.scorer import Scorer
from jaxrec.evaluation.users import better_same_worse, by_user, gains
from jaxrec.files import read_json, whole_file
from jaxrec.learning.personalize import Personal, PersonalOptions, personal_sampler, personalize, user_chunks
from jaxrec.models.recommender import bytes_of
from jaxrec.stages.choice import Choice, choose, personal_scorer
from jaxrec.stages.once import once, settings_of
from jaxrec.stages.store import slots_in, write_store
from jaxrec.stages.train import Trained, fingerprint, load_trained

log = logging.getLogger("jaxrec")

RESULT = Path("personal/metrics.json")
COMPARED = ("markov", "user_history", "markov_user_history")
"""Baselines that a personal model has to beat."""


class FineTuned(NamedTuple):
    """All users' results.

    Attributes:
      found: (user indices, result) by chunk.
      users_per_s: users / seconds of fine-tuning, without compilation.
    """

    found: list[tuple[np.ndarray, Personal]]
    users_per_s: float

    @property
    def users(self) -> np.ndarray:
        return slots_in(self.found)[0][1:]

    @property
    def improved(self) -> np.ndarray:
        return slots_in(self.found)[1][1:]


def run_personalize(
    dataset: Dataset, workdir: Path, options: PersonalOptions, overwrite: bool = False, references: Mapping[str, Scorer] | None = None
) -> dict:
    """Personalise, compare on the test period, and write `workdir`/personal: store, users.parquet, metrics.json (returned).

    Args:
      references: more scorers to rank the same predictions with, by name; best_without_user and best_with_user give the attainable gain.
    """
    trained = load_trained(workdir, dataset)
    inputs = {"dataset": fingerprint(dataset), "model": trained.fingerprint, "references": ", ".join(references or {})}

    def work() -> dict:
        return (
            {"personal": None}
            if not dataset.n_users
            else _personalize(dataset, trained, workdir / RESULT.parent, options, references or {})
        )

    return once(workdir / RESULT, settings_of(options), inputs, overwrite, work)


def load_personal(workdir: Path, trained: Trained) -> dict:
    """What `run_personalize` wrote, for this global model.

    Raises:
      InputError: it did not run, or started from another global model.
    """
    result = read_json(workdir / RESULT, "result of `personalize`")
    if result["inputs"]["model"] != trained.fingerprint:
        raise InputError(f"{workdir / RESULT}: expected personal models of the global model in {workdir}; they started from another one")
    return result


def _personalize(dataset: Dataset, trained: Trained, folder: Path, options: PersonalOptions, references: Mapping[str, Scorer]) -> dict:
    choice = choose(dataset, trained, options)
    log.info("chosen: learning rate %g, history weight %g", choice.learning_rate, choice.history_weight)
    tuned = _fine_tune(dataset, trained, options, choice.learning_rate)
    _shared, start = trained.model.split(trained.params)
    write_store(folder / "store", start, tuned.found)
    ranks = _rank_all(dataset, _scorers(dataset, trained, tuned, choice) | dict(references))
    table = _user_table(dataset, tuned, ranks)
    _write_table(folder / "users.parquet", table)
    return {**_compare(ranks, table), **_account(trained, tuned, choice), **_attainable(ranks, references)}


def _fine_tune(dataset: Dataset, trained: Trained, options: PersonalOptions, learning_rate: float) -> FineTuned:
    """Fine-tune every user who has own events before the test period."""
    shared, start = trained.model.split(trained.params)
    first = dataset.period("personal").start if options.replay == "personal" else 0
    chunks = list(user_chunks(dataset, range(dataset.n_users), first, dataset.period("test").start, options))
    source = personal_sampler(dataset.item_counts, options)
    _compile(trained, options, shared, start, source, chunks)
    total = sum(int((events.user >= 0).sum()) for events in chunks)
    found, began = [], time.perf_counter()
    with tqdm(total=total, desc="fine-tuning", unit="user", disable=None, leave=False) as bar:
        for users, result in personalize(trained.model, options, shared, start, source, chunks, learning_rate):
            found.append((users, jax.tree.map(np.asarray, result)))
            bar.update(len(users))
    return FineTuned(found, total / (time.perf_counter() - began) if total else 0.0)


def _compile(trained: Trained, options: PersonalOptions, shared: Any, start: Any, source: Any, chunks: list) -> None:
    """Run one empty chunk of each shape, so that compilation does not count as fine-tuning."""
    shapes = {events.all.mask.shape: events for events in chunks}
    empty = [jax.tree.map(np.zeros_like, events) for events in shapes.values()]
    for _ in personalize(trained.model, options, shared, start, source, iter(empty), 0.0):
        pass


def _scorers(dataset: Dataset, trained: Trained, tuned: FineTuned, choice: Choice) -> dict[str, Scorer]:
    shared, start = trained.model.split(trained.params)
    before = GlobalScorer(trained.model, trained.params)
    fine_tuned = after = before
    if tuned.found:
        fine_tuned = personal_scorer(trained, shared, start, tuned.found, dataset.n_users, gated=False)
        after = personal_scorer(trained, shared, start, tuned.found, dataset.n_users)
    after = WithHistory(after, choice.history_weight) if choice.history_weight else after
    return {
        "before": before,
        "fine_tuned": fine_tuned,
        "after": after,
        **{name: BASELINES[name](dataset, dataset.period("global")) for name in COMPARED},
    }


def _rank_all(dataset: Dataset, scorers: Mapping[str, Scorer]) -> dict[str, Ranks]:
    """Ranks of the same predictions, those of the test period, by every scorer."""
    blocks = list(session_blocks(dataset, dataset.period("test"), predictions_at_once(dataset.n_items)))
    return {name: rank_sessions(scorer, blocks, dataset.n_items) for name, scorer in scorers.items()}


def _user_table(dataset: Dataset, tuned: FineTuned, ranks: Mapping[str, Ranks]) -> pd.DataFrame:
    """One row per user with a test prediction; metrics are means over the user's own predictions."""
    users = np.unique(ranks["before"].users)
    histories, test = Histories(dataset), dataset.period("test").start
    lengths = np.diff(dataset.offsets)
    own = [int(lengths[histories.sessions_of(int(user), test)].sum()) for user in users]
    trained, kept = np.isin(users, tuned.users), np.isin(users, tuned.users[tuned.improved])
    columns = {"user": load_users(dataset.folder)[users], "own_events": own, "trained": trained, "fallback": ~kept}
    table = pd.DataFrame(columns)
    for name in ("before", "fine_tuned", "after"):
        total = by_user(ranks[name], users)
        table["predictions"] = total["predictions"].astype(np.int64)
        for metric in ("recall@20", "mrr@20"):
            table[f"{name}_{metric}"] = total[metric] / total["predictions"]
    return table


def _write_table(path: Path, table: pd.DataFrame) -> None:
    with whole_file(path) as partial:
        table.to_parquet(partial, index=False)


def _compare(ranks: Mapping[str, Ranks], table: pd.DataFrame) -> dict[str, Any]:
    measured = {name: metrics(one) for name, one in ranks.items()}
    users = np.unique(ranks["before"].users)
    before, after = by_user(ranks["before"], users), by_user(ranks["after"], users)
    better, same, worse = better_same_worse(before["recall@20"], after["recall@20"])
    return {
        "users": len(users),
        "users_trained": int(table["trained"].sum()),
        "predictions": measured["before"]["predictions"],
        **{name: measured[name] for name in ("before", "after", "fine_tuned")},
        "baselines": {name: measured[name] for name in COMPARED},
        "gain_ci95": gains(before, after),
        "fine_tuned_gain_ci95": gains(before, by_user(ranks["fine_tuned"], users)),
        "users_better": better,
        "users_same": same,
        "users_worse": worse,
        "users_fallback": float(table["fallback"].mean()) if len(table) else 0.0,
    }


def _account(trained: Trained, tuned: FineTuned, choice: Choice) -> dict[str, Any]:
    return {
        "users_per_s": tuned.users_per_s,
        "users_in_store": len(tuned.users),
        "personal_bytes_per_user": bytes_of(trained.model.split(trained.params)[1]),
        "learning_rate": choice.learning_rate,
        "history_weight": choice.history_weight,
        "trials": choice.trials,
    }


def _attainable(ranks: Mapping[str, Ranks], references: Mapping[str, Scorer]) -> dict[str, Any]:
    """What the best possible rankers reach, and the share of the gain between them that personalisation recovered."""
    if not references:
        return {}
    found = {name: metrics(ranks[name]) for name in references}
    gain = metrics(ranks["after"])["recall@20"] - metrics(ranks["before"])["recall@20"]
    attainable = found["best_with_user"]["recall@20"] - found["best_without_user"]["recall@20"]
    return {"attainable": {**found, "recovered": gain / attainable if attainable > 0 else None}}
