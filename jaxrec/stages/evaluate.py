"""Rank the whole test period by any models, side by side on the same predictions."""

from collections.abc import Sequence
from pathlib import Path

from jaxrec.baselines.registry import BASELINES
from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError
from jaxrec.evaluation.metrics import metrics
from jaxrec.evaluation.networks import GlobalScorer, PersonalScorer, WithHistory
from jaxrec.evaluation.ranks import TIES
from jaxrec.evaluation.scorer import Scorer
from jaxrec.files import sha256
from jaxrec.stages.once import once
from jaxrec.stages.personalize import RESULT as PERSONAL
from jaxrec.stages.personalize import load_personal
from jaxrec.stages.store import read_store, slots_of
from jaxrec.stages.train import Trained, fingerprint, load_trained, rank

MODELS = ("global", "personal", *BASELINES)
USUAL = ("global", "popularity", "session_popularity", "markov", "item_knn")
"""Models that are ranked where none are named."""


def run_evaluate(dataset: Dataset, workdir: Path, names: Sequence[str], ties: str = "standard", overwrite: bool = False) -> dict:
    """Metrics of every named model over the test period; also written to `workdir`/evaluation/metrics.json.

    Raises:
      InputError: an unknown model or tie mode, or one that was not trained yet.
    """
    for given, known, flag in [*((name, MODELS, "model") for name in names or [""]), (ties, TIES, "ties")]:
        if given not in known:
            raise InputError(f"--{flag}: expected one of {', '.join(known)}; got {given!r}")
    inputs = {"dataset": fingerprint(dataset)}
    if {"global", "personal"} & set(names):
        trained = load_trained(workdir, dataset)
        inputs["global model"] = trained.fingerprint
        if "personal" in names:
            load_personal(workdir, trained)
            inputs["personal models"] = sha256(workdir / PERSONAL)

    def work() -> dict:
        return {name: metrics(rank(scorer(name, dataset, workdir), dataset, dataset.period("test")), ties) for name in names}

    return once(workdir / "evaluation/metrics.json", {"model": list(names), "ties": ties}, inputs, overwrite, work)


def scorer(name: str, dataset: Dataset, workdir: Path) -> Scorer:
    """The named model: a baseline fitted on the global period, the trained global model, or what the devices would ship."""
    if name in BASELINES:
        return BASELINES[name](dataset, dataset.period("global"))
    trained = load_trained(workdir, dataset)
    return GlobalScorer(trained.model, trained.params) if name == "global" else _personal(dataset, workdir, trained)


def _personal(dataset: Dataset, workdir: Path, trained: Trained) -> Scorer:
    shared, start = trained.model.split(trained.params)
    result = load_personal(workdir, trained)
    users, improved, stack = read_store(workdir / PERSONAL.parent / "store", start)
    shipped = PersonalScorer(trained.model, shared, stack, slots_of(users, improved, dataset.n_users))
    return WithHistory(shipped, result["history_weight"])
