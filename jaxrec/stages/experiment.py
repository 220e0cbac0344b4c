"""The whole job in one call: log -> dataset -> global model -> candidates -> personal models -> TFLite -> measured report."""

import dataclasses
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path

import jax

from jaxrec.baselines.shop_oracle import best_from_history, best_with_user, best_without_user
from jaxrec.data.account import describe
from jaxrec.data.dataset import Dataset
from jaxrec.data.prepare import PrepareOptions, prepare
from jaxrec.data.reading.formats import ReadOptions
from jaxrec.data.shop import Shop, ShopOptions, draw, numbers, write_log
from jaxrec.data.storage import load_dataset, load_users, load_vocabulary
from jaxrec.device.measure import MeasureOptions
from jaxrec.device.shipped import ExportOptions, check_device_rule
from jaxrec.errors import InputError
from jaxrec.evaluation.scorer import Scorer
from jaxrec.learning.mesh import MeshOptions, open_mesh, open_user_mesh
from jaxrec.learning.personal_recipe import PersonalRecipe
from jaxrec.learning.recipe import Recipe
from jaxrec.models.recommender import Model, ModelOptions
from jaxrec.stages.candidates import CandidateOptions, run_candidates
from jaxrec.stages.evaluate import EvaluateOptions, run_evaluate
from jaxrec.stages.export import run_export
from jaxrec.stages.measure import run_measure
from jaxrec.stages.personalize import run_personalize
from jaxrec.stages.report import write_report
from jaxrec.stages.train import run_train

log = logging.getLogger("jaxrec")

DEVICE_PACKAGES = ("litert_converter", "ai_edge_litert")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Options of every stage."""

    reading: ReadOptions = ReadOptions()
    prepare: PrepareOptions = PrepareOptions()
    shop: ShopOptions = ShopOptions()
    model: ModelOptions = ModelOptions()
    recipe: Recipe = Recipe()
    candidates: CandidateOptions = CandidateOptions()
    personal: PersonalRecipe = PersonalRecipe()
    evaluate: EvaluateOptions = EvaluateOptions()
    export: ExportOptions = ExportOptions()
    measure: MeasureOptions = MeasureOptions()
    mesh: MeshOptions = MeshOptions()


def run_experiment(inputs: Sequence[Path], test_inputs: Sequence[Path], workdir: Path, plan: Plan, overwrite: bool = False) -> dict:
    """Run every stage under `workdir` and write the report; stages that are done with the same options are kept.

    Args:
      inputs: log files; empty: the simulated shop.

    Returns:
      What report.json holds.
    """
    _check(plan)
    shop = None if inputs else draw(plan.shop)
    log.info("1/8 prepare")
    dataset = _prepare(inputs, test_inputs, workdir, plan, shop, overwrite)
    _check_log(dataset, plan)
    log.info("2/8 train")
    run_train(dataset, workdir, plan.model, plan.recipe, overwrite, open_mesh(plan.mesh))
    if dataset.n_users:
        log.info("3/8 candidates")
        run_candidates(dataset, workdir, plan.candidates, overwrite)
    else:
        log.info("3/8 candidates are left out: the log names no users")
    log.info("4/8 personalize")
    references = {} if shop is None else _best_rankers(shop, dataset)
    run_personalize(dataset, workdir, plan.personal, overwrite, references, open_user_mesh(MeshOptions()))  # all devices
    log.info("5/8 evaluate")
    run_evaluate(dataset, workdir, plan.evaluate, overwrite)
    if missing := [package for package in DEVICE_PACKAGES if importlib.util.find_spec(package) is None]:
        log.warning("6/8 export and 7/8 measure are left out: %s not installed (pip install jaxrec[device])", " and ".join(missing))
    else:
        log.info("6/8 export")
        run_export(dataset, workdir, plan.export, overwrite)
        log.info("7/8 measure")
        run_measure(workdir, plan.measure, overwrite)
    log.info("8/8 report")
    return write_report([workdir])


def _check(plan: Plan) -> None:
    """Refuse at once what a late stage would refuse."""
    training = plan.personal.training
    check_device_rule(training.rule)
    if plan.export.rows == "candidates":
        raise InputError("--rows=candidates: expected bundled or streamed; what the file holds depends on one user (`export --user`)")
    if "personal" in plan.evaluate.model and plan.personal.run.keep == "metrics":
        raise InputError("--model=personal: expected a store of parameters (--keep=full or int8); got --keep=metrics")
    model = Model(plan.model, n_items=1, trainable=training.trainable)
    model.split(model.init(jax.random.key(0)))
    if plan.mesh.coordinator_address is not None:
        raise InputError("--coordinator_address: expected none, the whole job runs in one process; train and personalize run in several")
    open_mesh(plan.mesh)


def _check_log(dataset: Dataset, plan: Plan) -> None:
    """Refuse before the training what does not fit the log."""
    allowed, evaluate = plan.candidates.allowed_behaviors, plan.evaluate
    if allowed and dataset.behaviors is not None:
        dataset.of_behaviors(allowed, "allowed_behaviors")
    if not dataset.n_users and "personal" in evaluate.model:
        raise InputError("--model=personal: expected a log with users; this one names none")
    if not dataset.n_users and evaluate.rank_within == "candidates":
        raise InputError("--rank_within=candidates: expected a log with users, whose candidates these are; this one names none")


def _prepare(inputs: Sequence[Path], test_inputs: Sequence[Path], workdir: Path, plan: Plan, shop: Shop | None, overwrite: bool) -> Dataset:
    if shop is not None:
        inputs = [_shop_log(shop, plan.shop, workdir)]
    manifest = prepare(list(inputs), list(test_inputs), plan.reading, plan.prepare, workdir / "dataset", overwrite)
    log.info("%s", describe(manifest))
    return load_dataset(workdir / "dataset")


def _shop_log(shop: Shop, options: ShopOptions, workdir: Path) -> Path:
    """The shop's log file; written once, so that its time does not change."""
    values = "-".join(str(value) for value in vars(options).values())
    path = workdir / f"shop-{values}.csv"
    if not path.exists():
        write_log(shop, path)
    return path


def _best_rankers(shop: Shop, dataset: Dataset) -> dict[str, Scorer]:
    items = numbers(load_vocabulary(dataset.folder), shop.n_items, "item")
    users = numbers(load_users(dataset.folder), len(shop.favourites), "user")
    return {
        "best_without_user": best_without_user(shop, items),
        "best_from_history": best_from_history(shop, items),
        "best_with_user": best_with_user(shop, items, users),
    }
