"""Every model of several runs on the same predictions: figures with intervals, which differences are real, spread over seeds."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrec.errors import InputError
from jaxrec.evaluation.differences import LEVEL, Difference, differences
from jaxrec.evaluation.intervals import DRAWS, cluster_sums
from jaxrec.evaluation.ranks import Ranks
from jaxrec.files import sha256
from jaxrec.report.models import HEADLINE, by_recall, headline_table
from jaxrec.report.results import read_results
from jaxrec.report.summary import summary_of
from jaxrec.report.tables import as_text, count, interval, metric, signed, table
from jaxrec.stages.compare import settings_of_run
from jaxrec.stages.evaluate import RESULT, ranks_file
from jaxrec.stages.report import names
from jaxrec.stages.store import read_ranks

COMPARED = ("recall@20", "mrr@20")
SEEDS = ("train --seed", "personalize --personal_seed")


class Evaluated(NamedTuple):
    """The evaluation of one run.

    Attributes:
      models: figures by model.
      dataset: fingerprint of what it was evaluated on.
      ties: how it counts equal scores.
      settings: of the whole run, by stage and flag, but for its seeds and for which models were ranked.
    """

    workdir: Path
    models: dict[str, dict[str, Any]]
    dataset: str
    ties: str
    settings: dict[str, str]


def compare_models(workdirs: list[Path], dataset: Path | None = None) -> str:
    """Tables of every model of every run; a model that ranks alike in several runs, such as a baseline, stands there once.

    Raises:
      InputError: a run was not evaluated, or on another dataset, or with other ties than the first.
    """
    runs = {name: _read(workdir, dataset) for name, workdir in names(workdirs).items()}
    first = next(iter(runs.values()))
    for one in runs.values():
        _check_alike(first, one)
    found = _distinct(runs)
    models = by_recall({label: one.models[model] for label, (one, model) in found.items()})
    sums = _sums({label: found[label] for label in models})
    parts = [as_text(headline_table(models)), *_difference_table(differences(sums, COMPARED), sums)]
    return "\n\n".join([*parts, *_seed_tables(runs)])


def _read(workdir: Path, dataset: Path | None) -> Evaluated:
    results = read_results(workdir, dataset)
    path = workdir / RESULT
    if results.evaluation is None or any("ci95" not in one for one in results.evaluation["models"].values()):
        raise InputError(f"{path}: expected an evaluation with intervals; got none: run `evaluate`, with --overwrite if it ran before")
    found = results.evaluation
    settings = {name: value for name, value in settings_of_run(summary_of(results)).items() if name not in (*SEEDS, "evaluate --model")}
    return Evaluated(workdir, found["models"], found["inputs"]["dataset"], found["settings"]["ties"], settings)


def _check_alike(first: Evaluated, one: Evaluated) -> None:
    if one.dataset != first.dataset:
        raise InputError(f"--runs: expected runs on one dataset; {one.workdir} was evaluated on another than {first.workdir}")
    if one.ties != first.ties:
        raise InputError(f"--runs: expected runs with --ties={first.ties} as {first.workdir}; {one.workdir} was evaluated with {one.ties}")


def _distinct(runs: dict[str, Evaluated]) -> dict[str, tuple[Evaluated, str]]:
    """Models whose ranks differ, by label: the model alone where it is the same in all runs, otherwise with the runs it is of."""
    alike: dict[tuple[str, str], list[str]] = {}
    for run, one in runs.items():
        for model in one.models:
            path = ranks_file(one.workdir, model)
            if not path.exists():
                raise InputError(f"{path}: expected the ranks that `evaluate` keeps; there is no such file: run it with --overwrite")
            alike.setdefault((model, sha256(path)), []).append(run)
    return {model if len(own) == len(runs) else f"{model} ({', '.join(own)})": (runs[own[0]], model) for (model, _), own in alike.items()}


def _sums(found: dict[str, tuple[Evaluated, str]]) -> dict[str, dict[str, np.ndarray]]:
    """Sums of the compared metrics by cluster, of one model's ranks after another's."""
    sums, first = {}, None
    for label, (one, model) in found.items():
        ranks = read_ranks(ranks_file(one.workdir, model))[model]
        first = first or ranks
        _check_same_predictions(first, ranks, ranks_file(one.workdir, model))
        total = cluster_sums(ranks, one.ties)
        sums[label] = {name: total[name] for name in (*COMPARED, "predictions")}
    return sums


def _check_same_predictions(first: Ranks, ranks: Ranks, path: Path) -> None:
    if not all(np.array_equal(getattr(first, name), getattr(ranks, name)) for name in ("sessions", "steps", "users")):
        raise InputError(f"{path}: expected ranks of the same predictions as the first model; got those of other ones")


def _difference_table(found: list[Difference], sums: dict[str, dict[str, np.ndarray]]) -> list[str]:
    if not found:
        return []
    cells: dict[str, list[str]] = {}
    for one in found:
        row = cells.setdefault(f"{one.first} less {one.second}", [])
        row += [f"{signed(one.value)} ({interval(one.interval)})", "yes" if one.real else "no"]
    header = ("difference", *(cell for key in COMPARED for cell in (HEADLINE[key], "real")))
    clusters = len(next(iter(sums.values()))["predictions"])
    text = (
        f"Differences on the same predictions with 95 % intervals, {count(DRAWS)} paired bootstrap draws from {count(clusters)} users, or "
        f"sessions where no user is known. Real: p < {LEVEL} after Holm's correction for all {len(found)} differences of the table. This "
        "is about these trained models; whether their settings differ, runs with other seeds tell."
    )
    return [table(header, [(name, *row) for name, row in cells.items()]), text]


def _seed_tables(runs: dict[str, Evaluated]) -> list[str]:
    """Mean and standard deviation of runs that differ by nothing but their seeds."""
    alike: dict[tuple, list[str]] = {}
    for run, one in runs.items():
        alike.setdefault(tuple(sorted(one.settings.items())), []).append(run)
    return [part for own in alike.values() if len(own) > 1 for part in _seed_table({run: runs[run] for run in own})]


def _seed_table(runs: dict[str, Evaluated]) -> list[str]:
    common = [model for model in next(iter(runs.values())).models if all(model in one.models for one in runs.values())]
    values = {model: np.array([[one.models[model][key] for key in HEADLINE] for one in runs.values()]) for model in common}
    rows = [
        (model, *(f"{metric(mean)} ± {metric(spread)}" for mean, spread in zip(found.mean(0), found.std(0, ddof=1), strict=True)))
        for model, found in values.items()
    ]
    text = f"Mean ± standard deviation over {len(runs)} runs that differ by their seeds alone ({', '.join(runs)}):"
    return [text, table(("model", *HEADLINE.values()), rows)]
