"""Writing so that a file or folder under its final name is always whole: write beside it, flush, rename."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxrec.errors import InputError

PARTIAL = ".partial"


def partial_path(path: Path) -> Path:
    """Where `path` is written before it is whole; a later write of the same path starts by removing it."""
    return path.with_name(f".{path.name}{PARTIAL}")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it takes the name `path` only if the block ends without an error."""
    partial = partial_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        _flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _flush(path.parent)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to fill; it takes the name `path`, replacing what stood there, only if the block ends without an error.

    Raises:
      InputError: somebody else is filling it at this time.
    """
    path = path.resolve()  # a link stays, what it names is replaced
    partial, old = partial_path(path), path.with_name(f".{path.name}.old")
    with claimed(path, "fill"):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            yield partial
            for file in sorted(partial.rglob("*")):
                _flush(file)
            _swap(partial, path, old)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    _flush(path.parent)


@contextlib.contextmanager
def claimed(path: Path, to: str) -> Iterator[None]:
    """Hold the lock for doing `to`, one word, to what has the name `path`; it is free again when this process ends, however it ends.

    Where the file system has no locks, or no place for one beside `path`, nobody is kept out.

    Raises:
      InputError: somebody else holds it.
    """
    path = path.resolve()
    lock = path.with_name(f".{path.name}.{to}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
            held.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(lock.stat(), os.fstat(handle)):
                raise BlockingIOError
            held.callback(lock.unlink, missing_ok=True)
        except (BlockingIOError, FileNotFoundError):  # the latter: whoever held it has just removed it
            raise InputError(f"{path}: expected no other command that works there; one is at work") from None
        except OSError:
            pass
        yield


def remove_folder(path: Path) -> None:
    """Remove a folder, if it is there; cut short, no part of it stays under its name."""
    path = path.resolve()  # a link stays, what it names is removed
    if path.exists():
        aside = partial_path(path)
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        shutil.rmtree(aside)


def _swap(partial: Path, path: Path, old: Path) -> None:
    """Give `partial` the name `path`; what stood there is kept as `old`, or put back if that fails."""
    if not path.exists():
        partial.rename(path)
        return
    shutil.rmtree(old, ignore_errors=True)
    path.rename(old)
    try:
        partial.rename(path)
    except OSError:
        old.rename(path)
        raise


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON; NaN is refused because JSON has none."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file that a command wrote; `what` names it in the error, e.g. "dataset manifest"."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: expected a {what}; there is no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: expected a {what} in JSON; got something else ({error})") from None


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
