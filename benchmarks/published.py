"""Published logs that come with a test part of their own."""

import tempfile
from pathlib import Path

from jaxrec.data.dataset import Dataset
from jaxrec.data.prepare import PrepareOptions, prepare
from jaxrec.data.reading.formats import ReadOptions
from jaxrec.data.storage import load_dataset


def published(log: Path) -> Dataset:
    """The dataset of a folder that holds train.tsv and test.tsv."""
    with tempfile.TemporaryDirectory() as folder:
        prepare([log / "train.tsv"], [log / "test.tsv"], ReadOptions(), PrepareOptions(), Path(folder) / "dataset")
        return load_dataset(Path(folder) / "dataset")  # its arrays stay mapped when the files' names are gone
