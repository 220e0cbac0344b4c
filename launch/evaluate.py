"""Rank the whole test period by several models.

Example: python -m launch.evaluate --dataset=runs/shop/dataset --workdir=runs/shop --model=global,markov,user_history
"""

from absl import flags as absl_flags

from jaxrec.data.storage import load_dataset
from jaxrec.evaluation.ranks import TIES
from jaxrec.report.tables import table
from jaxrec.stages.evaluate import MODELS, USUAL, run_evaluate
from launch import flags

DATASET = flags.path("dataset", "folder that prepare wrote")
WORKDIR = flags.path("workdir", "folder of the run; the metrics go to its folder `evaluation`")
OVERWRITE = flags.switch("overwrite", "replace an evaluation of other models")
MODEL = absl_flags.DEFINE_list("model", list(USUAL), f"models to rank by: {', '.join(MODELS)}")
TIES_MODE = absl_flags.DEFINE_enum("ties", "standard", TIES, "rank among equal scores: best, worst or middle place")


def main() -> None:
    """Evaluate, then print a table."""
    dataset, workdir = load_dataset(flags.required(DATASET(), "dataset")), flags.required(WORKDIR(), "workdir")
    result = run_evaluate(dataset, workdir, MODEL.value, TIES_MODE.value, OVERWRITE())
    found = {name: result[name] for name in MODEL.value}
    names = [name for name in next(iter(found.values())) if name != "predictions"]
    print(table(["model", *names], [[model, *(f"{values[name]:.4f}" for name in names)] for model, values in found.items()]))


if __name__ == "__main__":
    flags.run(main)
