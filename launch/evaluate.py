"""Rank the whole test period by several models.

Example: python -m launch.evaluate --dataset=runs/shop/dataset --workdir=runs/shop --model=global,markov,user_history
"""

from absl import flags as absl_flags

from jaxrec.data.storage import load_dataset
from jaxrec.report.models import evaluated
from jaxrec.stages.evaluate import MODELS, USUAL, EvaluateOptions, run_evaluate
from launch import flags

DATASET = flags.path("dataset", "folder that prepare wrote")
WORKDIR = flags.path("workdir", "folder of the run; the metrics go to its folder `evaluation`")
OVERWRITE = flags.switch("overwrite", "replace an evaluation of other models")
MODEL = absl_flags.DEFINE_list("model", list(USUAL), f"models to rank by: {', '.join(MODELS)}")
OPTIONS = flags.options(EvaluateOptions)


def main() -> None:
    """Evaluate, then print tables."""
    dataset, workdir = load_dataset(flags.required(DATASET(), "dataset")), flags.required(WORKDIR(), "workdir")
    result = run_evaluate(dataset, workdir, MODEL.value, OPTIONS(), OVERWRITE())
    print(evaluated({name: result[name] for name in MODEL.value}))


if __name__ == "__main__":
    flags.run(main)
