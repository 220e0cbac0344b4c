"""Prepare: from a published log to a dataset folder, whole or not at all, and kept where it was made the same way before."""

import dataclasses
import hashlib
import logging
import time
from pathlib import Path

from tqdm import tqdm

from jaxrec.data.dataset import iso
from jaxrec.data.preparing.build import PrepareOptions, build
from jaxrec.data.reading.formats import Log, ReadOptions, open_log
from jaxrec.data.reading.sources import input_files
from jaxrec.data.reading.time_units import NANOSECONDS
from jaxrec.data.storage import MANIFEST, finish_dataset, load_dataset, read_manifest, refuse_foreign
from jaxrec.errors import InputError
from jaxrec.files import whole_folder

__all__ = ["PrepareOptions", "prepare"]

log = logging.getLogger("jaxrec")

_GIGABYTE = 1 << 30
_PACKED = (".gz", ".bz2", ".zst", ".zip", ".parquet")


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much is worked on at once.

    Attributes:
      chunk_bytes: bytes of a log that are parsed at once.
      part_rows: rows that are sorted at once.
      most_events: events that are arranged at once.
    """

    chunk_bytes: int
    part_rows: int
    most_events: int


def budget(memory_limit_gb: float) -> Budget:
    """Shares of the memory to work in.

    Measured: a byte of text takes 4 while it is parsed, a row in work 130 on each of up to 4 threads (and the allocator keeps as much
    again), an event that is arranged 40.
    """
    share = memory_limit_gb * _GIGABYTE / 4
    return Budget(chunk_bytes=min(int(share / 8), 1 << 27), part_rows=min(int(share / 2000), 1 << 21), most_events=int(share / 40))


def prepare(
    inputs: list[Path], test_inputs: list[Path], reading: ReadOptions, options: PrepareOptions, folder: Path, overwrite: bool = False
) -> dict:
    """Read a log, write a dataset folder, whole or not at all; one that was made the same way before is kept.

    Args:
      inputs: files of the log; names may be patterns such as logs/*.csv, or comma-separated lists.
      test_inputs: files that are the whole test period; empty where the log itself is cut.
      reading: how the files are read.
      options: how their rows become sessions and periods.
      folder: the dataset; lines that could not be read are kept in it, in bad_lines.csv.
      overwrite: whether a dataset that was made otherwise is replaced.

    Returns:
      The manifest.

    Raises:
      InputError: a file or an option is wrong, or the folder holds another dataset.
    """
    inputs, test_inputs = input_files(inputs, "input"), input_files(test_inputs, "test_input")
    refuse_foreign(folder)
    work = budget(options.memory_limit_gb)
    fingerprints = {name: [_fingerprint(path) for path in paths] for name, paths in (("inputs", inputs), ("test_inputs", test_inputs))}
    logs = _open(inputs, test_inputs, reading, work.chunk_bytes)
    settings = {"options": _options(reading, options), **fingerprints, "item_table": _digest(logs[0])}
    kept = _kept(folder, settings, overwrite)
    if kept is not None:
        return kept
    parts = -(-sum(map(_likely_rows, [*inputs, *test_inputs])) // work.part_rows)
    began = time.perf_counter()
    with whole_folder(folder) as partial:
        with tqdm(total=_text_bytes(inputs + test_inputs), desc="reading", unit="B", unit_scale=True, disable=None, leave=False) as bar:
            account = build(logs, options, partial, parts, work.most_events, bar.update)
        seconds = {"seconds": time.perf_counter() - began, "stage_seconds": account.pop("stage_seconds")}
        manifest = {"format": logs[0].format, "columns": logs[0].columns, **settings, **account, **seconds}
        return finish_dataset(partial, manifest)


def _open(inputs: list[Path], test_inputs: list[Path], reading: ReadOptions, chunk_bytes: int) -> list[Log]:
    train = open_log(inputs, reading, chunk_bytes)
    if not test_inputs:
        return [train]
    test = open_log(test_inputs, dataclasses.replace(reading, format=train.format), chunk_bytes)
    if test.columns.keys() != train.columns.keys():
        raise InputError(f"--test_input: expected the columns of --input ({train.columns}); got {test.columns}")
    return [train, test]


def _likely_rows(path: Path) -> int:
    """About how many rows a file holds; no more than a guess is needed."""
    return path.stat().st_size * (6 if path.suffix in _PACKED else 1) // 30 + 1


def _text_bytes(paths: list[Path]) -> int | None:
    """Bytes that will be read, where that is known beforehand."""
    return None if any(path.suffix in _PACKED for path in paths) else sum(path.stat().st_size for path in paths)


def _options(reading: ReadOptions, options: PrepareOptions) -> dict:
    """What a dataset depends on, by flag; how much memory it took to make it changes nothing."""
    given = {**dataclasses.asdict(reading), **dataclasses.asdict(options)}
    del given["memory_limit_gb"]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def _digest(log: Log) -> str | None:
    """What tells the companion file of a log from another."""
    return None if log.item_features is None else hashlib.sha256(str(log.item_features.to_pydict()).encode()).hexdigest()


def _fingerprint(path: Path) -> dict:
    if not path.is_file():
        raise InputError(f"{path}: expected a log file; {'got a folder' if path.exists() else 'there is no such file'}")
    stat = path.stat()
    return {"name": path.name, "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}


def _kept(folder: Path, settings: dict, overwrite: bool) -> dict | None:
    """The manifest of the dataset that stands in `folder`, made with these settings; None where it has to be made."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        manifest = read_manifest(folder)
        differences = _differences(manifest, settings)
        if not differences:
            load_dataset(folder)
            log.info("%s: already prepared from the same files with the same options, kept", folder)
            return manifest
    except InputError:
        if overwrite:
            return None
        raise
    if not overwrite:
        raise InputError(f"{folder}: was prepared otherwise ({'; '.join(differences)}); --overwrite replaces it")
    return None


def _differences(manifest: dict, settings: dict) -> list[str]:
    """Each option or list of files in which a dataset differs from what is asked for, as text."""
    names = {"input": "inputs", "test_input": "test_inputs", "input (its file of items)": "item_table"}
    old, new = ({**one["options"], **{name: one.get(key) for name, key in names.items()}} for one in (manifest, settings))
    return [f"--{name}: {_short(old.get(name))} there, {_short(new.get(name))} now" for name in old | new if old.get(name) != new.get(name)]


def _short(value: object) -> str:
    """A setting in few words; of an input file its name, size and time of change in seconds."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(f"{one['name']} ({one['bytes']} bytes, of {iso(one['modified_ns'] // NANOSECONDS)})" for one in value)
    return repr(value)
