"""Logs of a few rows for tests, and where the real ones lie."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jaxrec.data.dataset import Dataset
from jaxrec.data.events import NANOSECONDS, Events

REAL = Path(__file__).parents[2] / "shared" / "data"


def real(name: str) -> Path:
    """A published log; the test is skipped where it is not there."""
    path = REAL / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def events(rows: list[tuple], sessions: list[int] | None = None) -> Events:
    """Events of (user, item, seconds) rows; user None stands for a log without users."""
    users, items, seconds = zip(*rows, strict=True)
    item_codes, item_names = _encode(items)
    user_codes, user_names = (None, None) if users[0] is None else _encode(users)
    times = np.array([round(one * 1000) for one in seconds], np.int64) * (NANOSECONDS // 1000)
    return Events(item_codes, times, item_names, user_codes, user_names, None if sessions is None else np.array(sessions))


def _encode(names: tuple[str, ...]) -> tuple[np.ndarray, pa.Array]:
    encoded = pa.array(names, pa.string()).dictionary_encode()
    return np.asarray(encoded.indices), encoded.dictionary


def sessions_as_text(dataset: Dataset, item_names: pa.Array, period: str) -> list[str]:
    """Sessions of a period as words of their items' names."""
    names = np.array(item_names.to_pylist(), object)
    return ["".join(names[dataset.session(s)]) for s in dataset.period(period)]


def write_lines(path: Path, lines: list[str], end: str = "\n") -> Path:
    """A text file of these lines."""
    path.write_bytes("".join(line + end for line in lines).encode())
    return path
