"""The dataset on disk: a folder of arrays, two tables of names and a manifest; memory-mapped when read.

`vocabulary.parquet` has the columns index, item (text) and events (in the global period); `users.parquet` has index and user (text).
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from jaxrec.data.cuts import iso
from jaxrec.data.dataset import PERIODS, Dataset
from jaxrec.errors import InputError
from jaxrec.files import read_json, sha256, whole_folder, write_json

VERSION = 1
ARRAYS = ("items", "times", "offsets", "users", "period_offsets", "item_counts")
MANIFEST, VOCABULARY, USERS = "manifest.json", "vocabulary.parquet", "users.parquet"


def write_dataset(dataset: Dataset, item_names: pa.Array, user_names: pa.Array, folder: Path) -> dict:
    """Write a dataset folder, whole or not at all, over what stood there.

    Args:
      dataset: what to write.
      item_names: text of every item index.
      user_names: text of every user index.
      folder: takes the place of an earlier dataset; anything else there is refused.

    Returns:
      The manifest as written: the dataset's own, with version, shapes and checksums.

    Raises:
      InputError: the folder holds something that is no dataset.
    """
    refuse_foreign(folder)
    with whole_folder(folder) as partial:
        arrays = {name: np.asarray(getattr(dataset, name)) for name in ARRAYS}
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array)
        _write_names(partial, dataset, item_names, user_names)
        shapes = {name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in arrays.items()}
        checksums = {file.name: sha256(file) for file in sorted(partial.iterdir())}
        manifest = {"version": VERSION, **dataset.manifest, "arrays": shapes, "checksums": checksums}
        write_json(partial / MANIFEST, manifest)
        load_dataset(partial, verify=False)
    return manifest


def refuse_foreign(folder: Path) -> None:
    """Raise InputError where `folder` holds something that is no dataset, so that it is never replaced."""
    if folder.exists() and not (folder / MANIFEST).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder}: expected a dataset folder or a new path; got something else there ({MANIFEST} is missing), left untouched"
        )


def _write_names(folder: Path, dataset: Dataset, item_names: pa.Array, user_names: pa.Array) -> None:
    items = {"index": np.arange(dataset.n_items, dtype=np.int32), "item": item_names, "events": dataset.item_counts}
    pa.parquet.write_table(pa.table(items), folder / VOCABULARY)
    users = {"index": np.arange(dataset.n_users, dtype=np.int32), "user": user_names}
    pa.parquet.write_table(pa.table(users), folder / USERS)


def load_dataset(folder: Path, verify: bool = True) -> Dataset:
    """Open a dataset; its arrays stay on disk and are read where they are used.

    Args:
      folder: as `prepare` wrote it.
      verify: compare the checksum of every file; shapes and the periods are compared always.

    Raises:
      InputError: no dataset, one of another version, or a file that is missing or damaged; names the file, what was expected and what came.
    """
    manifest = read_manifest(folder)
    for name, digest in manifest["checksums"].items():
        _check_file(folder / name, digest if verify else None)
    arrays = {name: _map(folder / f"{name}.npy", manifest["arrays"][name]) for name in ARRAYS}
    arrays["period_offsets"] = tuple(int(n) for n in arrays["period_offsets"])
    dataset = Dataset(**arrays, n_users=manifest["users"], manifest=manifest, folder=folder)
    check_periods(dataset)
    return dataset


def read_manifest(folder: Path) -> dict:
    """The manifest of a dataset of this version."""
    manifest = read_json(folder / MANIFEST, "dataset manifest")
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if version != VERSION:
        raise InputError(
            f"{folder / MANIFEST}: expected a dataset of version {VERSION}; got version {version}; prepare it again with --overwrite"
        )
    missing = [key for key in ("checksums", "arrays", "users", "cuts") if key not in manifest]
    if missing:
        raise InputError(f"{folder / MANIFEST}: expected a dataset manifest; {', '.join(missing)} is missing")
    return manifest


def load_vocabulary(folder: Path) -> np.ndarray:
    """Text of every item index, [items] of str objects."""
    return _read_column(folder / VOCABULARY, "item")


def load_users(folder: Path) -> np.ndarray:
    """Text of every user index, [users] of str objects."""
    return _read_column(folder / USERS, "user")


def check_periods(dataset: Dataset) -> None:
    """Every session starts within its period, as far as the manifest names cuts.

    Raises:
      InputError: one does not; names the cut and the session's start.
    """
    starts = dataset.times[dataset.offsets[:-1]]
    for period, name in enumerate(("personal_from", "test_from"), 1):
        cut = dataset.manifest["cuts"][name]
        if cut is None:
            continue
        first = dataset.period_offsets[period]
        # Test files may begin before the last training session: where they do, there is no cut to hold them to.
        end = dataset.period_offsets[3 if dataset.manifest["cuts"]["test_from"] is not None else 2]
        wrong = np.concatenate([starts[:first][starts[:first] >= cut], starts[first:end][starts[first:end] < cut]])
        if len(wrong):
            raise InputError(
                f"{dataset.folder}: expected the {PERIODS[period]} period to begin at {iso(cut)}; got a session at {iso(wrong[0])}"
            )


def _check_file(path: Path, digest: str | None) -> None:
    if not path.is_file():
        raise InputError(f"{path}: expected a file of the dataset; it is missing")
    if digest is not None and (got := sha256(path)) != digest:
        raise InputError(f"{path}: expected sha256 {digest}; got {got}: the file is damaged")


def _map(path: Path, expected: dict) -> np.ndarray:
    try:
        array = np.asarray(np.load(path, mmap_mode="r"))
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: expected an array; got a damaged file ({error})") from None
    got = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if got != expected:
        raise InputError(f"{path}: expected {expected['dtype']} {expected['shape']}; got {got['dtype']} {got['shape']}")
    return array


def _read_column(path: Path, name: str) -> np.ndarray:
    _check_file(path, None)
    try:
        return pa.parquet.read_table(path, columns=[name]).column(name).to_numpy()
    except pa.ArrowException as error:
        raise InputError(f"{path}: expected a table with the column {name}; got a damaged file ({' '.join(str(error).split())})") from None
