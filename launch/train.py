"""Train the global model on a prepared dataset; run again, it goes on where it stopped.

Example: python -m launch.train --dataset=runs/shop/dataset --workdir=runs/shop
On 8 devices: --mesh=data:8. In two processes: --coordinator_address=HOST:PORT --num_processes=2 --process_id=0 (and 1).
"""

import logging

from jaxrec.data.storage import load_dataset
from jaxrec.learning.mesh import MeshOptions, open_mesh
from jaxrec.learning.processes import connect, leads
from jaxrec.learning.recipe import LossOptions, OptimizerOptions, Recipe, RunOptions
from jaxrec.models.recommender import ModelOptions
from jaxrec.stages.train import run_train
from launch import flags

DATASET = flags.path("dataset", "folder that prepare wrote")
WORKDIR = flags.path("workdir", "folder of the run; the model goes to its folder `train`")
OVERWRITE = flags.switch("overwrite", "replace training that was done otherwise")
MODEL, LOSS, OPTIMIZER, RUN = (flags.options(kind) for kind in (ModelOptions, LossOptions, OptimizerOptions, RunOptions))
MESH = flags.options(MeshOptions)


def main() -> None:
    """Train, then print what the test period says."""
    connect(MESH())
    if not leads():
        logging.getLogger("jaxrec").setLevel(logging.WARNING)
    dataset, workdir = load_dataset(flags.required(DATASET(), "dataset")), flags.required(WORKDIR(), "workdir")
    result = run_train(dataset, workdir, MODEL(), Recipe(LOSS(), OPTIMIZER(), RUN()), OVERWRITE(), open_mesh(MESH()))
    if not leads():
        return
    print(
        f"Recall@20 {result['recall@20']:.4f}, MRR@20 {result['mrr@20']:.4f} over {result['predictions']:,} predictions of the test period"
    )
    print(f"{result['epochs']} epochs, {result['train_events_per_s']:,.0f} events/s; the model lies in {workdir / 'train'}")


if __name__ == "__main__":
    flags.run(main)
