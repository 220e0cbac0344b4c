"""A part of the report as text and tables; markdown and the page show the same parts.

`runs` are summaries (see `jaxrec.report.summary`) by the name of their run. Where there are several, every table shows them side by side.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxrec.report.tables import Table, join

Runs = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
      title: its heading.
      text: a paragraph that says how to read it; may be empty.
      tables: its tables, in order.
      code: command lines; may be empty.
      figures: names of the plots that belong to it.
    """

    title: str
    text: str = ""
    tables: tuple[Table, ...] = ()
    code: str = ""
    figures: tuple[str, ...] = ()


def joined(runs: Runs, build: Callable[[dict], Table | None]) -> Table | None:
    """One table of what `build` makes of each run; None where no run has such figures."""
    found = {name: built for name, summary in runs.items() if (built := build(summary)) is not None and built.rows}
    # A table that only one of several runs has must still say whose it is.
    return join(found, named=len(runs) > 1) if found else None
