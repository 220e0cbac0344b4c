"""Fine-tune one model per user and compare it with the global one on the test period.

Example: python -m launch.personalize --dataset=runs/shop/dataset --workdir=runs/shop
"""

from jaxrec.data.storage import load_dataset
from jaxrec.learning.personalize import PersonalOptions
from jaxrec.stages.personalize import run_personalize
from launch import flags

DATASET = flags.path("dataset", "folder that prepare wrote")
WORKDIR = flags.path("workdir", "folder of the run, with a trained model; the store goes to its folder `personal`")
OVERWRITE = flags.switch("overwrite", "replace personal models that were made otherwise")
OPTIONS = flags.options(PersonalOptions)


def main() -> None:
    """Personalise, then print before and after."""
    dataset, workdir = load_dataset(flags.required(DATASET(), "dataset")), flags.required(WORKDIR(), "workdir")
    result = run_personalize(dataset, workdir, OPTIONS(), OVERWRITE())
    if "users" not in result:
        print("the log has no users: there is nobody to personalise for, devices get the global model")
        return
    for name in ("before", "fine_tuned", "after"):
        print(f"{name:>10}: Recall@20 {result[name]['recall@20']:.4f}, MRR@20 {result[name]['mrr@20']:.4f}")
    trained, rate = f"{result['users_trained']:,} of {result['users']:,} users fine-tuned", result["users_per_s"]
    print(f"{trained}, {rate:,.0f} users/s; {result['users_worse']:.1%} worse")


if __name__ == "__main__":
    flags.run(main)
