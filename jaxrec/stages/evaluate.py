"""Rank the whole test period by any models, side by side on the same predictions.

evaluation/metrics.json       {model: {"recall@20": ..., "mean_rank": ..., "predictions": ...,
                                       "coverage@20": ..., "popularity@20": ..., "lists": how many say the two,
                                       "ci95": {"recall@20": [low, high]}, "clusters": how many users (sessions) intervals draw from,
                                       "groups": {"hot_targets": {"recall@20": ...}}}}
evaluation/ranks/MODEL.npz    its ranks, for comparisons with any model of any run on the dataset that metrics.json names
"""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxrec.baselines.registry import BASELINES
from jaxrec.compression.rows import ENCODINGS
from jaxrec.data.dataset import Dataset
from jaxrec.data.own_history import popularity
from jaxrec.data.storage import check_periods, fingerprint
from jaxrec.errors import InputError
from jaxrec.evaluation.groups import by_group
from jaxrec.evaluation.intervals import ci95, cluster_sums
from jaxrec.evaluation.lists import list_metrics, recommended, spread
from jaxrec.evaluation.metrics import metrics
from jaxrec.evaluation.networks import GlobalScorer, WithHistory
from jaxrec.evaluation.ranks import TIES, Ranks, changed
from jaxrec.evaluation.scorer import Scorer
from jaxrec.files import sha256, whole_folder
from jaxrec.options import Options, option
from jaxrec.stages.candidates import RESULT as CANDIDATES
from jaxrec.stages.candidates import load_candidates, ranking_of_all, ranking_within
from jaxrec.stages.once import once, settings_of
from jaxrec.stages.personalize import RESULT as PERSONAL
from jaxrec.stages.personalize import STORE, as_trained_on_devices, load_personal
from jaxrec.stages.precision import at_precision
from jaxrec.stages.store import StoredScorer, improved, open_store, write_ranks
from jaxrec.stages.train import Trained, blocks_for, load_trained

RESULT = Path("evaluation/metrics.json")
RANKS = Path("evaluation/ranks")

MODELS = ("global", "personal", *BASELINES)
NETWORKS = ("global", "personal")
ENCODED = tuple(name for name in ENCODINGS if name != "float32")
"""Precisions of files that round."""


@dataclasses.dataclass(frozen=True)
class EvaluateOptions(Options):
    """Which models are ranked, and how."""

    model: tuple[str, ...] = option(
        ("global", "popularity", "session_popularity", "markov", "item_knn"),
        f"models to rank by: {', '.join(MODELS)}",
        choices=MODELS,
    )
    ties: str = option("standard", "rank among equal scores: best, worst or middle place", choices=TIES)
    scoring: str = option(
        "float32",
        "what a network's scores are products of: bfloat16 rows and vectors, or rows and frozen matrices as a device of that --precision "
        "decodes them (float16, int8); sums are float32. The share of predictions whose standard rank differs from float32's is "
        "ranks_changed",
        choices=("float32", "bfloat16", *ENCODED),
    )
    rank_within: str = option(
        "catalogue",
        "items that compete: all, or each user's candidates, own earlier items and those of the running session (candidates), where any "
        "other target is a miss",
        choices=("catalogue", "candidates"),
    )
    listed_predictions: int = option(
        20_000,
        "about how many predictions, of sessions spread over the test, say coverage@20 and popularity@20; their number is `lists`",
        minimum=1,
    )


def run_evaluate(dataset: Dataset, workdir: Path, options: EvaluateOptions = EvaluateOptions(), overwrite: bool = False) -> dict:
    """Metrics of every named model over the test period; also written to `workdir`/evaluation/metrics.json.

    Raises:
      InputError: no model, one that was not trained yet, candidates that were not picked, or a session of the dataset that starts
        outside its period.
    """
    check_periods(dataset)
    if not options.model:
        raise InputError(f"--model: expected one of {', '.join(MODELS)} or several; got none")
    inputs, trained, names = {"dataset": fingerprint(dataset.manifest)}, None, options.model
    if set(NETWORKS) & set(names):
        trained = load_trained(workdir, dataset)
        inputs["global model"] = trained.fingerprint
        if options.scoring in ENCODED and (workdir / PERSONAL).exists():  # frozen is what users' devices do not train
            trained, _ = as_trained_on_devices(workdir, trained)
            inputs["trained on devices"] = f"{trained.model.trainable}, {trained.model.adapter_rank}"
        if "personal" in names:
            load_personal(workdir, trained)
            inputs["personal models"] = sha256(workdir / PERSONAL)
    if options.rank_within == "candidates":
        load_candidates(workdir, dataset)
        inputs["candidates"] = sha256(workdir / CANDIDATES)

    with contextlib.ExitStack() as ranks:

        def work() -> dict:
            limited, ranked = ranking_within(workdir, dataset) if options.rank_within == "candidates" else ranking_of_all(dataset)
            folder = ranks.enter_context(whole_folder(workdir / RANKS))
            return {
                name: _measure(name, limited(scorer(name, dataset, workdir, trained)), ranked, dataset, folder, options) for name in names
            }

        def write(found: dict) -> dict:
            ranks.close()  # no earlier metrics ever stand beside these ranks
            return found

        return once(workdir / RESULT, settings_of(options), inputs, overwrite, work, write)


def ranks_file(workdir: Path, name: str) -> Path:
    """Where the ranks of the named model are kept, by its name."""
    return workdir / RANKS / _file(name)


def _file(name: str) -> str:
    return f"{name}.npz"


def _measure(
    name: str, scorer: Scorer, ranked: Callable[[Scorer], Ranks], dataset: Dataset, folder: Path, options: EvaluateOptions
) -> dict[str, Any]:
    test, more = dataset.period("test"), {}
    ranks = ranked(scorer)
    if name in NETWORKS and options.scoring != "float32":
        exact, scorer = ranks, at_precision(scorer, options.scoring)
        ranks = ranked(scorer)
        more = {"ranks_changed": changed(exact, ranks)}
    write_ranks(folder / _file(name), {name: ranks})
    counts = recommended(scorer, blocks_for(scorer, dataset, spread(dataset, test, options.listed_predictions)), dataset.n_items)
    totals = cluster_sums(ranks, options.ties)
    return {
        **metrics(ranks, options.ties),
        **list_metrics(counts, dataset.item_counts),
        **more,
        "clusters": len(totals["predictions"]),
        "ci95": ci95(totals),
        "groups": by_group(dataset, ranks, options.ties),
    }


def scorer(name: str, dataset: Dataset, workdir: Path, trained: Trained | None = None) -> Scorer:
    """The named model: a baseline fitted on the global period, the trained global model, or what the devices would ship.

    Args:
      trained: the global model of `workdir`, where it is at hand already.
    """
    if name in BASELINES:
        return BASELINES[name](dataset, dataset.period("global"))
    trained = trained or load_trained(workdir, dataset)
    return GlobalScorer(trained.model, trained.params) if name == "global" else _personal(dataset, workdir, trained)


def _personal(dataset: Dataset, workdir: Path, trained: Trained) -> Scorer:
    trained, result = as_trained_on_devices(workdir, trained)
    shared, start = trained.model.split(trained.params)
    store = open_store(workdir / STORE, start)
    own = StoredScorer(trained.model, shared, store, improved(store) & result["fine_tuned_is_used"])
    return WithHistory(own, tuple(result["history"]), popularity(dataset.item_counts))
