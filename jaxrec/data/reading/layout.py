"""How the rows of a log are laid out."""

import dataclasses

from jaxrec.data.reading.chunks import FEATURE
from jaxrec.data.reading.time_units import TimeColumn


@dataclasses.dataclass(frozen=True)
class Layout:
    """What each column of a file is, and how a text file shows it.

    Attributes:
      format: name of the format, for errors.
      names: of the columns, in the order of the file.
      columns: which column holds the `user`, `session`, `item`, `behavior` and `feature:NAME`, by name.
      times: the columns whose sum is the time.
      separator: between columns: one character, or "::".
      header: whether the first line holds names.
      quotes: whether a column may stand in double quotes.
      no_user: what stands in the user column where there is no user.
      behavior: the behaviour of all events of a file that has no column of it.
      behavior_names: what the values of the behaviour column mean; no others may stand there.
    """

    format: str
    names: tuple[str, ...]
    columns: dict[str, str]
    times: tuple[TimeColumn, ...]
    separator: str = ","
    header: bool = False
    quotes: bool = False
    no_user: tuple[str, ...] = ()
    behavior: str = ""
    behavior_names: dict[str, str] = dataclasses.field(default_factory=dict)

    def none(self, column: str) -> tuple[str, ...]:
        """The values that mean none; () where none may be missing."""
        return ("",) if column.startswith(FEATURE) else self.no_user if column == "user" else ()

    @property
    def roles(self) -> dict[str, str]:
        """What a log tells of its columns."""
        times = {"time": "+".join(part.name for part in self.times), "time_unit": "+".join(part.unit for part in self.times)}
        return {**self.columns, **times}
