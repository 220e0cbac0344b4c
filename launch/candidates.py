"""Pick every user's candidates by what the cloud may know, and measure the ceiling that they set and the bytes that they take.

Example: python -m launch.candidates --dataset=runs/shop/dataset --workdir=runs/shop
         python -m launch.candidates --dataset=D --workdir=W --allowed_behaviors=buy,cart --candidate_sources=item_knn,popularity
"""

from jaxrec.data.storage import load_dataset
from jaxrec.report.candidates import shown
from jaxrec.stages.candidates import CandidateOptions, run_candidates
from launch import flags

DATASET = flags.path("dataset", "folder that prepare wrote")
WORKDIR = flags.path("workdir", "folder of the run; the lists go to its folder `candidates`")
OVERWRITE = flags.switch("overwrite", "replace candidates that were picked otherwise")
OPTIONS = flags.options(CandidateOptions)


def main() -> None:
    """Pick, then print the tables."""
    dataset, workdir = load_dataset(flags.required(DATASET(), "dataset")), flags.required(WORKDIR(), "workdir")
    print(shown(run_candidates(dataset, workdir, OPTIONS(), OVERWRITE())))


if __name__ == "__main__":
    flags.run(main)
