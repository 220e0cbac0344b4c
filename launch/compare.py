"""Print the figures of several runs side by side, and the settings in which they differ.

python -m launch.compare --workdir=runs/a --workdir=runs/b
"""

from jaxrec.stages.compare import compare
from launch import flags

workdirs = flags.path("workdir", "folder of a run; give it once per run", many=True)
dataset = flags.path("dataset", "dataset folder of all runs; by default the folder `dataset` of each workdir")


def main() -> None:
    print(compare(workdirs(), dataset()))


if __name__ == "__main__":
    flags.run(main)
