"""Tables of text: aligned for the terminal and valid markdown at once.

>>> print(table(("fruit", "kilos"), [("apple", "1.5"), ("fig", "12.0")]))
| fruit | kilos |
| :---- | ----: |
| apple |   1.5 |
| fig   |  12.0 |
"""

import dataclasses
import re
from collections.abc import Sequence

MISSING = "–"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text; the first column says what a row is about."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text; columns of numbers are flush right."""
    right = numeric_columns(header, rows)
    lines = [[escape(cell) for cell in line] for line in (header, *rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(header))]
    rule = ["-" * (width - 1) + ":" if flush else ":" + "-" * (width - 1) for width, flush in zip(widths, right, strict=True)]
    padded = [[_pad(*cell) for cell in zip(line, widths, right, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:]))


def as_text(one: Table) -> str:
    """A table as `table` writes it."""
    return table(one.header, one.rows)


def numeric_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[bool]:
    """Which columns hold numbers only; the first never does, it names the rows."""
    return [column > 0 and all(_is_number(row[column]) for row in rows) for column in range(len(header))]


def join(tables: dict[str, Table], named: bool = True) -> Table:
    """Tables of several runs side by side: rows with the same name become one; columns carry their run's name where `named`.

    >>> join({"a": Table(("", "x"), [("p", "1")]), "b": Table(("", "x"), [("p", "2"), ("q", "3")])}).rows
    [('p', '1', '2'), ('q', '–', '3')]
    """
    names = list(dict.fromkeys(row[0] for one in tables.values() for row in one.rows))
    rows = [[name] for name in names]
    for one in tables.values():
        cells, absent = {row[0]: row[1:] for row in one.rows}, (MISSING,) * (len(one.header) - 1)
        for row in rows:
            row += cells.get(row[0], absent)
    first = next(iter(tables.values())).header[0]
    header = [": ".join(filter(None, (run if named else "", column))) for run, one in tables.items() for column in one.header[1:]]
    return Table((first, *header), [tuple(row) for row in rows])


def escape(text: str) -> str:
    """Text that markdown shows as it is, on one line.

    >>> print(escape("a|<b>"))
    a\\|\\<b>
    """
    return re.sub(r"([\\|<*`])", r"\\\1", " ".join(text.split()))


def metric(value: float | None) -> str:
    """A share of predictions or a mean of ranks, four digits."""
    return MISSING if value is None else f"{value:.4f}"


def signed(value: float | None) -> str:
    """A difference of metrics, with its sign."""
    return MISSING if value is None else f"{value:+.4f}"


def interval(limits: Sequence[float] | None) -> str:
    """The limits of a difference of metrics."""
    return MISSING if not limits else f"{limits[0]:+.4f} to {limits[1]:+.4f}"


def within(value: float | None, limits: Sequence[float] | None) -> str:
    """A metric with its limits.

    >>> within(0.5, [0.4, 0.6])
    '0.5000 [0.4000, 0.6000]'
    """
    return metric(value) + (f" [{limits[0]:.4f}, {limits[1]:.4f}]" if limits else "")


def share(value: float | None) -> str:
    """A share as per cent.

    >>> share(0.1234)
    '12.3 %'
    """
    return MISSING if value is None else f"{100 * value:.1f} %"


def count(value: float | None) -> str:
    """A whole number with separated thousands; None is unknown."""
    return MISSING if value is None else f"{round(value):,}"


def size(value: float | None) -> str:
    """Bytes in the largest decimal unit that leaves a whole part.

    >>> size(283_904), size(12)
    ('283.9 kB', '12 B')
    """
    if value is None:
        return MISSING
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.1f} {unit}"
    return f"{round(value)} B"


def significant(value: float | None) -> str:
    """A measured quantity, three digits that count.

    >>> significant(1234.5), significant(12.345), significant(0.001234)
    ('1,234', '12.3', '0.00123')
    """
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:#.3g}"


def _is_number(cell: str) -> bool:
    return not cell or cell == MISSING or bool(re.match(r"[+-]?[\d.]", cell))


def _pad(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)
