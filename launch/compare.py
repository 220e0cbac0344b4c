"""Print the figures of several runs side by side, and the settings in which they differ.

With --runs also every model of every run, with intervals, and which differences are real.

Example: python -m launch.compare --workdir=runs/a --workdir=runs/b
         python -m launch.compare --runs=runs/a,runs/b
"""

from pathlib import Path

from absl import flags as absl_flags

from jaxrec.stages.compare import compare
from jaxrec.stages.compare_models import compare_models
from launch import flags

WORKDIRS = flags.path("workdir", "folder of a run; give it once per run", many=True)
RUNS = absl_flags.DEFINE_list("runs", [], "folders of evaluated runs on one dataset, comma-separated: their models are compared as well")
DATASET = flags.path("dataset", "dataset folder of all runs; by default the folder `dataset` of each workdir")


def main() -> None:
    """Compare, and print the tables."""
    runs = [Path(run) for run in RUNS.value]
    models = [compare_models(runs, DATASET())] if runs else []
    print("\n\n".join([compare([*WORKDIRS(), *runs], DATASET()), *models]))


if __name__ == "__main__":
    flags.run(main)
