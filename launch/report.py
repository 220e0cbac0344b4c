"""Write report.html, report.md and report.json of one or several runs, and print the tables.

Example: python -m launch.report --workdir=runs/shop
         python -m launch.report --workdir=runs/a --workdir=runs/b
"""

from jaxrec.stages.report import write_report
from launch import flags

WORKDIRS = flags.path(
    "workdir", "folder of a run; given several times, the runs stand side by side and the first gets the report", many=True
)
DATASET = flags.path("dataset", "dataset folder; by default the folder `dataset` of each workdir")


def main() -> None:
    """Write the report, then print it."""
    write_report(WORKDIRS(), DATASET())
    folder = WORKDIRS()[0]
    print((folder / "report.md").read_text(encoding="utf-8"))
    print(f"The same with plots: {folder / 'report.html'}")


if __name__ == "__main__":
    flags.run(main)
