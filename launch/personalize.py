"""Fine-tune one model per user and compare it with the global one on the test period.

Example: python -m launch.personalize --dataset=runs/shop/dataset --workdir=runs/shop
"""

import logging

from jaxrec.data.storage import load_dataset
from jaxrec.learning.mesh import MeshOptions, open_user_mesh
from jaxrec.learning.personal_recipe import ChoiceOptions, PersonalOptions, PersonalRecipe, UserRunOptions
from jaxrec.learning.processes import connect, leads
from jaxrec.stages.cadence import SHOWN as CADENCE
from jaxrec.stages.personalize import SHOWN, run_personalize
from launch import flags

DATASET = flags.path("dataset", "folder that prepare wrote")
WORKDIR = flags.path("workdir", "folder of the run, with a trained model; the store goes to its folder `personal`")
OVERWRITE = flags.switch("overwrite", "replace personal models that were made otherwise")
TRAINING, CHOICE, RUN = (flags.options(kind) for kind in (PersonalOptions, ChoiceOptions, UserRunOptions))
MESH = flags.options(MeshOptions)


def main() -> None:
    """Personalise, then print before and after."""
    connect(MESH())
    if not leads():
        logging.getLogger("jaxrec").setLevel(logging.WARNING)
    dataset, workdir = load_dataset(flags.required(DATASET(), "dataset")), flags.required(WORKDIR(), "workdir")
    recipe = PersonalRecipe(TRAINING(), CHOICE(), RUN())
    result = run_personalize(dataset, workdir, recipe, OVERWRITE(), mesh=open_user_mesh(MESH()))
    if not leads():
        return
    if "users" not in result:
        print("the log has no users: there is nobody to personalise for, devices get the global model")
        return
    for name in SHOWN:
        print(f"{name.replace('_', ' '):>23}: Recall@20 {result[name]['recall@20']:.4f}, MRR@20 {result[name]['mrr@20']:.4f}")
    trained, rate = f"{result['users_trained']:,} of {result['users']:,} users fine-tuned", result["users_per_s"]
    shares = ", ".join(f"{result[f'users_{name}']:.1%} {name}" for name in ("better", "same", "worse"))
    print(f"{trained}, {rate:,.0f} users/s; {shares}; {result['users_fallback']:.1%} keep the global network")
    for name in CADENCE if "cadence_total" in result else ():
        total = result["cadence_total"][name]
        print(f"{name.replace('_', ' '):>23}: Recall@20 {total['recall@20']:.4f}, MRR@20 {total['mrr@20']:.4f}")


if __name__ == "__main__":
    flags.run(main)
