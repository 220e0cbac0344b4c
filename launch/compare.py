"""Print the figures of several runs side by side, and the settings in which they differ.

Example: python -m launch.compare --workdir=runs/a --workdir=runs/b
"""

from jaxrec.stages.compare import compare
from launch import flags

WORKDIRS = flags.path("workdir", "folder of a run; give it once per run", many=True)
DATASET = flags.path("dataset", "dataset folder of all runs; by default the folder `dataset` of each workdir")


def main() -> None:
    """Compare, and print the tables."""
    print(compare(WORKDIRS(), DATASET()))


if __name__ == "__main__":
    flags.run(main)
