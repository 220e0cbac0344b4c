"""Rank the whole test period by any models, side by side on the same predictions."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from jaxrec.baselines.registry import BASELINES
from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError
from jaxrec.evaluation.metrics import metrics
from jaxrec.evaluation.networks import GlobalScorer, WithHistory, in_bfloat16
from jaxrec.evaluation.ranks import TIES, changed
from jaxrec.evaluation.scorer import Scorer
from jaxrec.files import sha256
from jaxrec.options import Options, option
from jaxrec.stages.once import once, settings_of
from jaxrec.stages.personalize import RESULT as PERSONAL
from jaxrec.stages.personalize import STORE, load_personal
from jaxrec.stages.store import StoredScorer, improved, open_store
from jaxrec.stages.train import Trained, fingerprint, load_trained, rank

MODELS = ("global", "personal", *BASELINES)
USUAL = ("global", "popularity", "session_popularity", "markov", "item_knn")
"""Models that are ranked where none are named."""
NETWORKS = ("global", "personal")


@dataclasses.dataclass(frozen=True)
class EvaluateOptions(Options):
    """How models are ranked."""

    ties: str = option("standard", "rank among equal scores: best, worst or middle place", choices=TIES)
    scoring: str = option(
        "float32",
        "precision of the item rows and user vectors that a network's scores are products of; sums are float32. With bfloat16 the share of "
        "predictions whose standard rank differs from float32's is reported as ranks_changed",
        choices=("float32", "bfloat16"),
    )


def run_evaluate(
    dataset: Dataset, workdir: Path, names: Sequence[str], options: EvaluateOptions = EvaluateOptions(), overwrite: bool = False
) -> dict:
    """Metrics of every named model over the test period; also written to `workdir`/evaluation/metrics.json.

    Raises:
      InputError: an unknown model, or one that was not trained yet.
    """
    for name in names or [""]:
        if name not in MODELS:
            raise InputError(f"--model: expected one of {', '.join(MODELS)}; got {name!r}")
    inputs = {"dataset": fingerprint(dataset)}
    if set(NETWORKS) & set(names):
        trained = load_trained(workdir, dataset)
        inputs["global model"] = trained.fingerprint
        if "personal" in names:
            load_personal(workdir, trained)
            inputs["personal models"] = sha256(workdir / PERSONAL)

    def work() -> dict:
        return {name: _measure(name, scorer(name, dataset, workdir), dataset, options) for name in names}

    return once(workdir / "evaluation/metrics.json", {"model": list(names), **settings_of(options)}, inputs, overwrite, work)


def _measure(name: str, scorer: Scorer, dataset: Dataset, options: EvaluateOptions) -> dict[str, float]:
    ranks = rank(scorer, dataset, dataset.period("test"))
    if name not in NETWORKS or options.scoring == "float32":
        return metrics(ranks, options.ties)
    rounded = rank(in_bfloat16(scorer), dataset, dataset.period("test"))
    return metrics(rounded, options.ties) | {"ranks_changed": changed(ranks, rounded)}


def scorer(name: str, dataset: Dataset, workdir: Path) -> Scorer:
    """The named model: a baseline fitted on the global period, the trained global model, or what the devices would ship."""
    if name in BASELINES:
        return BASELINES[name](dataset, dataset.period("global"))
    trained = load_trained(workdir, dataset)
    return GlobalScorer(trained.model, trained.params) if name == "global" else _personal(dataset, workdir, trained)


def _personal(dataset: Dataset, workdir: Path, trained: Trained) -> Scorer:
    result = load_personal(workdir, trained)
    trained = trained.trains(result["settings"]["trainable"], result["settings"]["adapter_rank"])
    shared, start = trained.model.split(trained.params)
    store = open_store(workdir / STORE, start)
    return WithHistory(StoredScorer(trained.model, shared, store, improved(store)), tuple(result["history"]))
