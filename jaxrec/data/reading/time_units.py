"""Units in which logs write times: what Arrow reads them as, and a slow twin that reads one text.

A time is held as nanoseconds since 1970 (UTC), exactly: numbers are read as decimals, never through a float.
"""

import datetime
import re
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute

NANOSECONDS = 1_000_000_000
UNITS = {"s": 9, "ms": 6, "us": 3, "ns": 0}  # unit -> decimals of one unit that nanoseconds can hold
_NAMES = {
    "s": "unix seconds",
    "ms": "unix milliseconds",
    "us": "unix microseconds",
    "ns": "unix nanoseconds",
    "utc": "a time as 2019-10-01 00:00:00 UTC",
    "date": "a date as 2016-05-09",
    "mmdd": "a month and day as 0829",
}
_UTC = " UTC"  # how a time of that unit ends
_DAY = 86_400 * NANOSECONDS
_NUMBER = re.compile(r"[ \t]*([+-]?)(?:(\d+)\.?(\d*)|\.(\d+))(?:[eE]([+-]?0*\d{1,9}))?[ \t]*", re.ASCII)
_DIGITS = 38  # of Arrow's decimals
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|([+-])(\d\d)(?::?(\d\d))?)?)?",
    re.ASCII,
)


class TimeColumn(NamedTuple):
    """A column that holds times, or a part of them.

    Attributes:
      name: of the column.
      unit: s, ms, us, ns, iso8601, utc (2019-10-01 00:00:00 UTC), date (2016-05-09) or mmdd (829, of a year).
      zoned: whether ISO-8601 times name their zone: all do or none does.
      year: of mmdd.
    """

    name: str
    unit: str
    zoned: bool = True
    year: int = 0

    @property
    def expected(self) -> str:
        """What an error says that the column should hold."""
        if self.unit == "iso8601":
            return f"an ISO-8601 time {'with a' if self.zoned else 'without a'} zone"
        return _NAMES[self.unit] + (f" of {self.year}" if self.unit == "mmdd" else "")


def arrow_type(column: TimeColumn) -> pa.DataType:
    """What Arrow reads a column of times as."""
    if column.unit in UNITS:
        return pa.decimal128(_DIGITS, UNITS[column.unit])
    if column.unit == "iso8601":
        return pa.timestamp("ns", tz="UTC" if column.zoned else None)
    if column.unit == "utc":
        return pa.string()
    return pa.dictionary(pa.int32(), pa.string())


def nanoseconds(values: pa.ChunkedArray, column: TimeColumn) -> np.ndarray:
    """[rows] int64 of what was read as `arrow_type`.

    Raises:
      pa.ArrowInvalid: a time is none, or beyond 64 bits.
    """
    if not values.num_chunks:
        return np.zeros(0, np.int64)
    if column.unit == "iso8601":
        return np.concatenate([np.asarray(chunk.cast(pa.int64())) for chunk in values.chunks])
    if column.unit == "utc":
        return np.concatenate([_before_utc(chunk) for chunk in values.chunks])
    if column.unit not in UNITS:
        return np.concatenate([_days(chunk, column) for chunk in values.chunks])
    return np.concatenate([_words(chunk) for chunk in values.chunks])


def _words(chunk: pa.Decimal128Array) -> np.ndarray:
    """[rows] int64 of decimals that fit."""
    if not len(chunk):
        return np.zeros(0, np.int64)
    words = np.frombuffer(chunk.buffers()[1], np.int64)[2 * chunk.offset :][: 2 * len(chunk)]
    low, high = words[::2], words[1::2]
    if np.any(high != low >> 63):
        raise pa.ArrowInvalid("a time beyond 64 bits of nanoseconds")
    return low


def _before_utc(chunk: pa.StringArray) -> np.ndarray:
    if not pa.compute.all(pa.compute.ends_with(chunk, _UTC)).as_py():
        raise pa.ArrowInvalid("a time that is not of UTC")
    times = pa.compute.utf8_slice_codeunits(chunk, 0, -len(_UTC))
    return np.asarray(times.cast(pa.timestamp("ns")).cast(pa.int64()))


def _days(chunk: pa.DictionaryArray, column: TimeColumn) -> np.ndarray:
    instants = [instant(text, column) for text in chunk.dictionary.to_pylist()]
    if None in instants:
        raise pa.ArrowInvalid("a date that is none")
    return np.array(instants, np.int64)[np.asarray(chunk.indices)]


def total(parts: list[np.ndarray]) -> np.ndarray:
    """The sum of the parts of times.

    Raises:
      pa.ArrowInvalid: a sum is beyond 64 bits.
    """
    (first, *others) = parts
    for other in others:
        both = first + other
        if np.any((first ^ both) & (other ^ both) < 0):
            raise pa.ArrowInvalid("a time beyond 64 bits of nanoseconds")
        first = both
    return first


def fits(instant: int) -> bool:
    """Whether 64 bits hold it."""
    return -(2**63) <= instant < 2**63


def instant(text: str, column: TimeColumn) -> int | None:
    """Nanoseconds since 1970 of a text; None where Arrow would refuse it.

    >>> instant("1396437466.94", TimeColumn("Time", "s")), instant("829", TimeColumn("time_stamp", "mmdd", year=2014))
    (1396437466940000000, 1409270400000000000)
    """
    if column.unit in UNITS:
        return _scaled(text, UNITS[column.unit])
    if column.unit == "iso8601":
        return _iso(text, column.zoned)
    if column.unit == "utc":
        return _iso(text.removesuffix(_UTC), False) if text.endswith(_UTC) else None
    if column.unit == "date":
        return _midnight(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) else None
    return _midnight(f"{column.year}-{text[:-2]:>02}-{text[-2:]}") if re.fullmatch(r"\d{3,4}", text, re.ASCII) else None


def _scaled(text: str, decimals: int) -> int | None:
    parts = _NUMBER.fullmatch(text)
    if not parts:
        return None
    sign, whole, fraction, bare, power = parts.groups(default="")
    fraction = fraction or bare
    digits = (whole + fraction).lstrip("0")
    exponent = int(power or 0) - len(fraction) + decimals
    if len(whole.lstrip("0") + fraction) > _DIGITS or exponent > _DIGITS:
        return None
    if exponent >= 0:
        value = int(digits or 0) * 10**exponent
    else:
        kept, lost = digits[:exponent], digits[exponent:]
        if lost.strip("0"):
            return None
        value = int(kept or 0)
    value = -value if sign == "-" else value
    return value if fits(value) else None


def _midnight(text: str) -> int | None:
    try:
        instant = (datetime.date.fromisoformat(text).toordinal() - datetime.date(1970, 1, 1).toordinal()) * _DAY
    except ValueError:
        return None
    return instant if fits(instant) else None


def _iso(text: str, zoned: bool) -> int | None:
    parts = _ISO.fullmatch(text)
    midnight = _midnight(parts[1]) if parts else None
    if midnight is None or bool(parts[6]) != zoned:
        return None
    hour, minute, second, zone_hour, zone_minute = (int(parts[group] or 0) for group in (2, 3, 4, 8, 9))
    if hour > 23 or minute > 59 or second > 59 or zone_hour > 23 or zone_minute > 59:
        return None
    local = midnight + (hour * 3600 + minute * 60 + second) * NANOSECONDS + int((parts[5] or "").ljust(9, "0"))
    offset = (zone_hour * 3600 + zone_minute * 60) * NANOSECONDS
    instant = local + offset if parts[7] == "-" else local - offset
    return instant if fits(local) and fits(instant) else None


def guess_unit(text: str) -> str:
    """The unit in which a time is written, from its size.

    >>> [guess_unit(t) for t in ("1396437466.94", "1433221332117", "2014-04-06T20:21:58.444Z", "2019-10-01 00:00:00 UTC")]
    ['s', 'ms', 'iso8601', 'utc']
    """
    if not _NUMBER.fullmatch(text):
        return "utc" if text.endswith(_UTC) else "iso8601"
    size = abs(float(text)) / NANOSECONDS
    return "s" if size < 100 else "ms" if size < 100_000 else "us" if size < 100_000_000 else "ns"


def iso_zone(text: str) -> bool | None:
    """Whether an ISO-8601 time names its zone; None where it is no such time."""
    return next((zoned for zoned in (True, False) if _iso(text, zoned) is not None), None)
