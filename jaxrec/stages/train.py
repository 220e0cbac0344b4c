"""Train the global model: the last part of the global period chooses the number of epochs, then all of it trains."""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from jaxrec.data.blocks import SessionBlock, session_blocks
from jaxrec.data.dataset import Dataset
from jaxrec.data.storage import fingerprint
from jaxrec.data.subset import rehearsal
from jaxrec.errors import InputError
from jaxrec.evaluation.metrics import metrics
from jaxrec.evaluation.networks import GlobalScorer
from jaxrec.evaluation.ranks import Ranks, predictions_at_once, rank_sessions
from jaxrec.evaluation.scorer import Scorer
from jaxrec.files import read_json, whole_file
from jaxrec.learning.checkpoints import digest, load_params, save_params
from jaxrec.learning.processes import leads, lost_process_named
from jaxrec.learning.recipe import Recipe
from jaxrec.learning.train import CHOSEN_BY, Fitted, Sessions, fit
from jaxrec.models.recommender import Model, ModelOptions, Params
from jaxrec.stages.once import go_on_or_begin, once, settings_of

log = logging.getLogger("jaxrec")

RESULT = Path("train/metrics.json")


class Trained(NamedTuple):
    """The global model.

    Attributes:
      params: trained on the whole global period.
      selection: trained on sessions before `validation_start` only, to choose settings honestly; None without validation.
      validation_start: number of the first global session that `selection` has not seen.
      fingerprint: what tells two models apart.
    """

    model: Model
    params: Params
    selection: Params | None
    validation_start: int
    fingerprint: str

    def trains(self, trainable: str, adapter_rank: int) -> "Trained":
        """The same model with other parts that users' devices train."""
        return self._replace(model=dataclasses.replace(self.model, trainable=trainable, adapter_rank=adapter_rank))


def run_train(
    dataset: Dataset, workdir: Path, model_options: ModelOptions, recipe: Recipe, overwrite: bool = False, mesh: Mesh | None = None
) -> dict:
    """Train, evaluate on the whole test period, and write `workdir`/train: checkpoints, metrics.jsonl, metrics.json (returned).

    In several processes all of them call this; the first writes.
    """
    settings = settings_of(model_options, recipe.loss, recipe.optimizer, recipe.run)
    inputs = {"dataset": fingerprint(dataset.manifest)}
    folder = workdir / RESULT.parent
    model = Model(model_options, dataset.n_items)

    def work() -> dict:
        go_on_or_begin(folder, {"settings": settings, "inputs": inputs}, "*/checkpoints/[0-9]*", overwrite)
        return _train(dataset, folder, model, recipe, mesh)

    with lost_process_named(str(folder)):
        return once(workdir / RESULT, settings, inputs, overwrite, work)


def _train(dataset: Dataset, folder: Path, model: Model, recipe: Recipe, mesh: Mesh | None) -> dict:
    start, epochs = validation_start(dataset, recipe.run.validation_fraction), recipe.run.epochs
    whole = _sessions(dataset, dataset.period("global").stop, recipe.run.train_behaviors)
    if recipe.run.train_behaviors and not whole.has_pairs:
        wanted = ",".join(recipe.run.train_behaviors)
        raise InputError(
            f"--train_behaviors: expected sessions of two such events or more in the global period; got {wanted}, which has none"
        )
    selection = select(dataset, folder / "selection", model, recipe, mesh)
    if selection is not None:
        epochs = best_epoch(selection)["epoch"]
        save_params(folder / "selection_model", selection.params)
    final = fit(model, recipe, whole, folder / "final", epochs, None, "final", mesh)
    save_params(folder / "model", final.params)
    if leads():
        _join_lines(folder)
    ranks = rank(GlobalScorer(model, final.params), dataset, dataset.period("test"))
    history = [] if selection is None else selection.history
    return {
        **metrics(ranks),
        **_account(final, epochs),
        "fingerprint": digest(final.params, None if selection is None else selection.params, start),
        "n_items": dataset.n_items,
        "loss": recipe.loss.for_items(dataset.n_items),
        "schedule": recipe.schedule,
        "validation_start": start,
        "validation": history,
    }


def select(dataset: Dataset, folder: Path, model: Model, recipe: Recipe, mesh: Mesh | None = None) -> Fitted | None:
    """Train on all but the last part of the global period, which says when to stop; None where there is nothing to go by."""
    start, stop = validation_start(dataset, recipe.run.validation_fraction), dataset.period("global").stop
    early = _sessions(dataset, start, recipe.run.train_behaviors)
    if start == stop or not early.has_pairs:
        return None
    late = rehearsal(dataset, start, np.arange(start, stop))
    if not late.n_sessions:
        return None
    return fit(model, recipe, early, folder, recipe.run.epochs, _validator(late, model), "selection", mesh)


def best_epoch(selection: Fitted) -> dict:
    """The entry of the epoch that validation chose."""
    return max(selection.history, key=lambda entry: entry[CHOSEN_BY])


def _account(final: Fitted, epochs: int) -> dict:
    rate = final.events / final.seconds if final.seconds else 0.0
    return {"epochs": epochs, "updates": final.updates, "train_seconds": final.seconds, "train_events_per_s": rate}


def _join_lines(folder: Path) -> None:
    parts = [folder / name / "metrics.jsonl" for name in ("selection", "final")]
    text = "".join(part.read_text(encoding="utf-8") for part in parts if part.exists())
    with whole_file(folder / "metrics.jsonl") as partial:
        partial.write_text(text, encoding="utf-8")


def validation_start(dataset: Dataset, fraction: float) -> int:
    """Number of the first global session that validates: the last `fraction` of them in order of time do; one past the last if none."""
    period = dataset.period("global")
    held = min(round(len(period) * fraction), len(period) - 1)
    return period.stop - held


def _sessions(dataset: Dataset, stop: int, behaviors: tuple[str, ...]) -> Sessions:
    """The global sessions before number `stop`, in memory; of some behaviours' events alone where any are named."""
    offsets = np.asarray(dataset.offsets[: stop + 1])
    items = np.asarray(dataset.items[: offsets[-1]])
    if behaviors:
        chosen = dataset.of_behaviors(behaviors)[: offsets[-1]]
        items, offsets = items[chosen], np.append(0, np.cumsum(chosen))[offsets]
        return Sessions(items, offsets, np.bincount(items, minlength=dataset.n_items))
    later = dataset.items[offsets[-1] : dataset.offsets[dataset.period("global").stop]]
    return Sessions(items, offsets, dataset.item_counts - np.bincount(later, minlength=dataset.n_items))


def _validator(late: Dataset, model: Model) -> Callable[[Params], dict]:
    def validate(params: Params) -> dict:
        measured = metrics(rank(GlobalScorer(model, params), late, late.period("test")))
        log.info("validation: Recall@20 %.4f, MRR@20 %.4f", measured["recall@20"], measured["mrr@20"])
        return {name: measured[name] for name in ("recall@20", "mrr@20")}

    return validate


def rank(scorer: Scorer, dataset: Dataset, sessions: range) -> Ranks:
    """Whole-catalogue ranks of every prediction in the sessions."""
    return rank_sessions(scorer, blocks_for(scorer, dataset, sessions), dataset.n_items)


def blocks_for(scorer: Scorer, dataset: Dataset, sessions: range) -> Iterator[SessionBlock]:
    """The sessions in blocks, with what users clicked before unless the scorer is known not to read it."""
    return session_blocks(dataset, sessions, predictions_at_once(dataset.n_items), not isinstance(scorer, GlobalScorer))


def load_trained(workdir: Path, dataset: Dataset) -> Trained:
    """The global model of a finished `train` on this dataset.

    Raises:
      InputError: `workdir` holds none, or it was trained on another dataset.
    """
    result = read_json(workdir / RESULT, "result of `train`")
    if result["inputs"]["dataset"] != fingerprint(dataset.manifest):
        raise InputError(f"--workdir: expected a model trained on {dataset.folder}; that in {workdir} was trained on another dataset")
    settings = result["settings"]
    names = ModelOptions.__dataclass_fields__
    options = ModelOptions(**{name: tuple(settings[name]) if name == "units" else settings[name] for name in names})
    model, folder = Model(options, result["n_items"]), workdir / RESULT.parent
    selection = load_params(folder / "selection_model", model) if result["validation"] else None
    return Trained(model, load_params(folder / "model", model), selection, result["validation_start"], result["fingerprint"])
