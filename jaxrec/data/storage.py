"""The dataset on disk: a folder of arrays, two tables of names and a manifest; memory-mapped when read.

`vocabulary.parquet` has the columns index, item (text) and events (in the global period); `users.parquet` has index and user (text);
`features.parquet`, where the log says something about its items, has index and a column of text per feature.
"""

import dataclasses
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from jaxrec.data.dataset import PERIODS, Dataset, iso
from jaxrec.errors import InputError
from jaxrec.files import read_json, sha256, whole_folder, write_json

VERSION = 2
ARRAYS = ("items", "times", "offsets", "users", "period_offsets", "item_counts")
OPTIONAL_ARRAYS = ("behaviors",)
MANIFEST, VOCABULARY, USERS, FEATURES = "manifest.json", "vocabulary.parquet", "users.parquet", "features.parquet"
BAD_LINES = "bad_lines.csv"
FILES = {MANIFEST, VOCABULARY, USERS, FEATURES, BAD_LINES, *(f"{name}.npy" for name in (*ARRAYS, *OPTIONAL_ARRAYS))}


def write_dataset(dataset: Dataset, item_names: pa.Array, user_names: pa.Array, folder: Path) -> dict:
    """Write a dataset that is held in memory, whole or not at all, over what stood there.

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
        for name in (*ARRAYS, *OPTIONAL_ARRAYS):
            if getattr(dataset, name) is not None:
                np.save(partial / f"{name}.npy", np.asarray(getattr(dataset, name)))
        write_names(partial, dataset.item_counts, item_names, user_names)
        return finish_dataset(partial, dataset.manifest)


def write_names(folder: Path, item_counts: np.ndarray, item_names: pa.Array, user_names: pa.Array) -> None:
    """Write the tables of items and users."""
    items = {"index": np.arange(len(item_names), dtype=np.int32), "item": item_names, "events": item_counts}
    pa.parquet.write_table(pa.table(items), folder / VOCABULARY)
    users = {"index": np.arange(len(user_names), dtype=np.int32), "user": user_names}
    pa.parquet.write_table(pa.table(users), folder / USERS)


def finish_dataset(folder: Path, manifest: dict) -> dict:
    """Add the manifest to a folder of arrays and tables, with their shapes and checksums, and check what was written.

    Returns:
      The manifest as written.
    """
    shapes = {name: _shape(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in _arrays_in(folder)}
    files = sorted(file for file in folder.iterdir() if file.name != MANIFEST)
    with ThreadPoolExecutor() as pool:
        checksums = dict(zip([file.name for file in files], pool.map(sha256, files), strict=True))
    sizes = {file.name: file.stat().st_size for file in files}
    manifest = {"version": VERSION, **manifest, "arrays": shapes, "bytes": sizes, "checksums": checksums}
    write_json(folder / MANIFEST, manifest)
    check_periods(load_dataset(folder))
    return manifest


def _arrays_in(folder: Path) -> list[str]:
    return [name for name in (*ARRAYS, *OPTIONAL_ARRAYS) if (folder / f"{name}.npy").exists()]


def refuse_foreign(folder: Path) -> None:
    """Raise InputError where `folder` holds anything that no dataset has, so that nothing else is ever replaced."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a dataset folder or a new path; got a file, left untouched")
    foreign = sorted({file.name for file in folder.iterdir()} - FILES)
    if foreign:
        raise InputError(f"{folder}: expected a dataset folder or a new path; got one that holds {foreign[0]}, left untouched")


def load_dataset(folder: Path, verify: bool = False) -> Dataset:
    """Open a dataset in an instant: its arrays stay on disk and are read where they are used.

    Args:
      folder: as `prepare` wrote it.
      verify: read everything to compare checksums, and the start of every session with its period; sizes and shapes are compared always.

    Raises:
      InputError: no dataset, one of another version, or a file that is missing or damaged; names the file, what was expected and what came.
    """
    manifest = read_manifest(folder)
    for name, digest in manifest["checksums"].items():
        _check_file(folder / name, manifest["bytes"][name], digest if verify else None)
    dataset = open_arrays(folder, manifest["users"], manifest["arrays"])
    dataset = dataclasses.replace(dataset, manifest=manifest, folder=folder)
    if verify:
        check_periods(dataset)
    return dataset


def open_arrays(folder: Path, n_users: int, expected: dict | None = None) -> Dataset:
    """The arrays of a dataset, mapped from disk; `expected` are their shapes and types, by name."""
    names = _arrays_in(folder) if expected is None else expected
    arrays = {name: _map(folder / f"{name}.npy", None if expected is None else expected[name]) for name in names}
    return Dataset(**arrays | {"period_offsets": tuple(int(n) for n in arrays["period_offsets"])}, n_users=n_users)


def read_manifest(folder: Path) -> dict:
    """The manifest of a dataset of this version."""
    manifest = read_json(folder / MANIFEST, "dataset manifest")
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if version != VERSION:
        raise InputError(
            f"{folder / MANIFEST}: expected a dataset of version {VERSION}; got version {version}; prepare it again with --overwrite"
        )
    missing = [key for key in ("checksums", "bytes", "arrays", "users", "cuts") if key not in manifest]
    if missing:
        raise InputError(f"{folder / MANIFEST}: expected a dataset manifest; {', '.join(missing)} is missing")
    return manifest


def fingerprint(manifest: dict) -> str:
    """What tells two datasets apart: a digest of their files' digests."""
    return hashlib.sha256(json.dumps(manifest["checksums"], sort_keys=True).encode()).hexdigest()


def load_vocabulary(folder: Path) -> np.ndarray:
    """Text of every item index, [items] of str objects."""
    return _read_column(folder / VOCABULARY, "item")


def load_features(folder: Path) -> pa.Table | None:
    """What the log says about items: one row per item index, one column of text per feature; None where it says nothing."""
    return pa.parquet.read_table(folder / FEATURES).drop_columns(["index"]) if (folder / FEATURES).exists() else None


def load_users(folder: Path) -> np.ndarray:
    """Text of every user index, [users] of str objects."""
    return _read_column(folder / USERS, "user")


def check_periods(dataset: Dataset) -> None:
    """Every session starts within its period, as far as the manifest names cuts.

    Starts of global sessions < personal_from <= starts of personal sessions < test_from <= starts of test sessions.

    Raises:
      InputError: one does not; names the cut, the first session that breaks it and its start.
    """
    starts = dataset.times[dataset.offsets[:-1]]
    for period, name in enumerate(("personal_from", "test_from"), 1):
        cut = dataset.manifest["cuts"][name]
        if cut is None:
            continue
        first = dataset.period_offsets[period]
        # Test files may begin before the last training session: where they do, there is no cut to hold them to.
        end = dataset.period_offsets[3 if dataset.manifest["cuts"]["test_from"] is not None else 2]
        wrong = np.flatnonzero((starts[:end] >= cut) != (np.arange(end) >= first))
        if len(wrong):
            raise InputError(
                f"{dataset.folder}: expected the {PERIODS[period]} period to begin at {iso(cut)} with session {first}; "
                f"got session {wrong[0]} at {iso(starts[wrong[0]])}"
            )


def _check_file(path: Path, size: int | None = None, digest: str | None = None) -> None:
    if not path.is_file():
        raise InputError(f"{path}: expected a file of the dataset; it is missing")
    if size is not None and (got := path.stat().st_size) != size:
        raise InputError(f"{path}: expected {size} bytes; got {got}: the file is damaged")
    if digest is not None and (got := sha256(path)) != digest:
        raise InputError(f"{path}: expected sha256 {digest}; got {got}: the file is damaged")


def _shape(array: np.ndarray) -> dict:
    return {"shape": list(array.shape), "dtype": str(array.dtype)}


def _map(path: Path, expected: dict | None) -> np.ndarray:
    try:
        array = np.asarray(np.load(path, mmap_mode="r"))
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: expected an array; got a damaged file ({error})") from None
    if expected is not None and (got := _shape(array)) != expected:
        raise InputError(f"{path}: expected {expected['dtype']} {expected['shape']}; got {got['dtype']} {got['shape']}")
    return array


def _read_column(path: Path, name: str) -> np.ndarray:
    _check_file(path)
    try:
        return pa.parquet.read_table(path, columns=[name]).column(name).to_numpy()
    except pa.ArrowException as error:
        raise InputError(f"{path}: expected a table with the column {name}; got a damaged file ({' '.join(str(error).split())})") from None
