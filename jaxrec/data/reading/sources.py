"""Where logs lie: a file, maybe packed (.gz, .bz2, .zst), or a member of a .zip archive.

Streams are read under `reading`, which turns whatever a damaged or missing file raises into an `InputError` that names it.
"""

import contextlib
import glob
import lzma
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import pyarrow as pa

from jaxrec.errors import InputError

_PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
# A password that an archive asks for is a RuntimeError, an unknown way of packing a NotImplementedError, a damaged name a ValueError.
_DAMAGE = (OSError, EOFError, pa.ArrowException, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error)
_DAMAGE += (RuntimeError, NotImplementedError, ValueError, MemoryError)


class Source(NamedTuple):
    """A file, or the member of a zip archive of that name."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}/{printable(self.member)}" if self.member else str(self.path)

    @property
    def name(self) -> str:
        """File name, without the suffix of packing.

        >>> Source(Path("logs.zip"), "ml-1m/ratings.dat.gz").name
        'ratings.dat'
        """
        last = PurePosixPath(self.member) if self.member else self.path
        return last.stem if last.suffix.lower() in _PACKED else last.name

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The unpacked bytes; read from them under `reading`."""
        with contextlib.ExitStack() as stack:
            with reading(self):
                if self.member:
                    archive = stack.enter_context(zipfile.ZipFile(self.path))
                    stream = stack.enter_context(archive.open(self.member))
                    packing = _PACKED.get(PurePosixPath(self.member).suffix.lower())
                    stream = stack.enter_context(pa.input_stream(stream, compression=packing)) if packing else stream
                else:
                    packing = _PACKED.get(self.path.suffix.lower())
                    stream = stack.enter_context(self.path.open("rb"))  # not by Arrow, which opens no name that is not UTF-8
                    stream = stack.enter_context(pa.input_stream(stream, compression=packing)) if packing else stream
            yield stream

    def sibling(self, name: str) -> "Source | None":
        """The file of that name, packed or not, beside this one; None where there is none."""
        names = [name, *(name + suffix for suffix in _PACKED)]
        if self.member:
            members = set(_members(self.path))
            beside = (str(PurePosixPath(self.member).with_name(one)) for one in names)
            return next((Source(self.path, one) for one in beside if one in members), None)
        return next((Source(self.path.with_name(one)) for one in names if self.path.with_name(one).is_file()), None)


@contextlib.contextmanager
def reading(source: Source | Path) -> Iterator[None]:
    """Name the file in whatever reading it raises.

    Raises:
      InputError: there is no such file, or it cannot be read.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{source}: expected a log file; there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{source}: expected a log file; got a folder") from None
    except _DAMAGE as error:
        raise InputError(f"{source}: cannot be read: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """The message of an error, or else its kind."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def printable(name: str) -> str:
    """A name of a file or column as it can stand in a message of one line.

    >>> printable("item\\nid")
    'item?id'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def sources_of(path: Path, choose: Callable[[list[Source]], list[Source]]) -> list[Source]:
    """What is to be read of a given file: itself, the only member of an archive, or the chosen ones, in order of name.

    Raises:
      InputError: an archive cannot be read or no member is chosen.
    """
    if path.is_dir():
        raise InputError(f"{path}: expected a log file; got a folder")
    if path.suffix.lower() != ".zip":
        return [Source(path)]
    members = [Source(path, name) for name in sorted(_members(path))]
    chosen = members if len(members) == 1 else choose(members)
    if not chosen:
        names = [printable(source.member) for source in members]
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise InputError(f"{path}: expected a log among the members of the archive; got {shown or 'an empty archive'}")
    return chosen


def _members(path: Path) -> list[str]:
    with reading(path), zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name and not name.endswith("/")]
    # macOS adds a folder of its own, and files that begin with a dot.
    return [name for name in names if not (name.startswith("__MACOSX/") or PurePosixPath(name).name[:1] == ".")]


def input_files(given: list[Path], flag: str) -> list[Path]:
    """The files that paths, patterns and comma-separated lists of them name; patterns in order of name.

    Raises:
      InputError: a pattern fits no file, or a file is named twice.
    """
    found = []
    for path in given:
        is_one = os.path.exists(path)  # noqa: PTH110 (Path.exists raises where a list is too long for a name)
        for one in [str(path)] if is_one else str(path).split(","):
            is_pattern = glob.has_magic(one) and not Path(one).exists()
            fitting = sorted(glob.glob(one)) if is_pattern else [one]  # noqa: PTH207 (Path.glob refuses absolute patterns)
            if not fitting:
                raise InputError(f"--{flag}: expected files that fit {one}; there are none")
            found += [Path(file) for file in fitting]
    if twice := [path for path, times in Counter(found).items() if times > 1]:
        raise InputError(f"--{flag}: expected every file once; got {twice[0]} twice")
    return found
