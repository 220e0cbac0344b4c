"""Write report.html, report.md and report.json of one or several runs, and print the tables.

python -m launch.report --workdir=runs/shop
python -m launch.report --workdir=runs/a --workdir=runs/b
"""

from jaxrec.stages.report import write_report
from launch import flags

workdirs = flags.path(
    "workdir", "folder of a run; given several times, the runs stand side by side and the first gets the report", many=True
)
dataset = flags.path("dataset", "dataset folder; by default the folder `dataset` of each workdir")


def main() -> None:
    write_report(workdirs(), dataset())
    folder = workdirs()[0]
    print((folder / "report.md").read_text(encoding="utf-8"))
    print(f"The same with plots: {folder / 'report.html'}")


if __name__ == "__main__":
    flags.run(main)
