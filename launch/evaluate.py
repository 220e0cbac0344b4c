"""Rank the whole test period by several models.

Example: python -m launch.evaluate --dataset=runs/shop/dataset --workdir=runs/shop --model=global,markov,user_history
"""

from jaxrec.data.storage import load_dataset
from jaxrec.report.models import evaluated
from jaxrec.stages.evaluate import EvaluateOptions, run_evaluate
from launch import flags

DATASET = flags.path("dataset", "folder that prepare wrote")
WORKDIR = flags.path("workdir", "folder of the run; the metrics go to its folder `evaluation`")
OVERWRITE = flags.switch("overwrite", "replace an evaluation of other models")
OPTIONS = flags.options(EvaluateOptions)


def main() -> None:
    """Evaluate, then print tables."""
    dataset, workdir, options = load_dataset(flags.required(DATASET(), "dataset")), flags.required(WORKDIR(), "workdir"), OPTIONS()
    result = run_evaluate(dataset, workdir, options, OVERWRITE())
    print(evaluated({name: result[name] for name in options.model}))


if __name__ == "__main__":
    flags.run(main)
