"""Inspect a dataset: verify its checksums, print the account of it and how long sessions are.

Example: python -m launch.inspect --dataset=runs/taobao/dataset
"""

from jaxrec.data.account import check_account, describe, histograms
from jaxrec.data.storage import load_dataset
from launch import flags

DATASET = flags.path("dataset", "folder that prepare wrote")


def main() -> None:
    """Verify, then print."""
    dataset = load_dataset(flags.required(DATASET(), "dataset"), verify=True)
    check_account(dataset)
    print(describe(dataset.manifest), histograms(dataset), f"checksums of {len(dataset.manifest['checksums'])} files verified", sep="\n\n")


if __name__ == "__main__":
    flags.run(main)
