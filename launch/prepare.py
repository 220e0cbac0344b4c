"""Prepare a published log: sessions, three periods of time, a dataset folder and the account of every row.

Example: python -m launch.prepare --input=UserBehavior.csv --item_field=category --dataset=runs/taobao/dataset
"""

from jaxrec.data.account import describe
from jaxrec.data.prepare import PrepareOptions, prepare
from jaxrec.data.reading.formats import ReadOptions
from launch import flags

INPUT = flags.path("input", "log file; several by repeating the flag, by commas or by a pattern such as 'logs/*.csv'", many=True)
TEST_INPUT = flags.path("test_input", "log file that is the whole test period; several as for --input", many=True)
DATASET = flags.path("dataset", "folder to write")
OVERWRITE = flags.switch("overwrite", "replace a dataset that was prepared otherwise")
READING, OPTIONS = flags.options(ReadOptions), flags.options(PrepareOptions)


def main() -> None:
    """Prepare, then print the account."""
    folder = flags.required(DATASET(), "dataset")
    manifest = prepare(INPUT(), TEST_INPUT(), READING(), OPTIONS(), folder, OVERWRITE())
    print(describe(manifest))


if __name__ == "__main__":
    flags.run(main)
