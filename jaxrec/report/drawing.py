"""How plots are drawn: as SVG that takes its colours from the page around it, readable light, dark and in print, or as a file of its own.

matplotlib draws with stand-in colours, which are then replaced by the page's text colour and its variables (see `jaxrec.report.look`).
"""

import io
import re
from collections.abc import Callable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxrec.report.look import LIGHT

INK, FAINT, GAIN, LOSS = "#010203", "#010204", "#010205", "#010206"
RUNS = ("#010207", "#010208", "#010209", "#01020a")
MARKERS = "os^D"
VARIABLES = {
    **{INK: "--ink", FAINT: "--faint", GAIN: "--gain", LOSS: "--loss"},
    **{stand_in: f"--run{number}" for number, stand_in in enumerate(RUNS)},
}
STYLE = {
    **{
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 11,
        "axes.titlesize": 11,
        "axes.labelsize": 11,
        "legend.fontsize": 10.5,
    },
    **{"text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": FAINT, "grid.color": FAINT},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.grid.axis": "y", "grid.linewidth": 0.5},
    **{"axes.axisbelow": True, "legend.frameon": False, "xtick.labelsize": 10.5, "ytick.labelsize": 10.5},
}
INCHES = (4.2, 3.0)

Draw = Callable[[Axes], None]


def inline(name: str, draw: Draw) -> str:
    """A drawing as an SVG element of the page; `name` keeps its ids apart from those of other plots there."""
    text = _svg(name, (draw,), transparent=True)
    text = text[text.index("<svg") :].strip()
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'\bid="|url\(#|href="#', lambda match: f"{match.group()}{name}-", text)
    return _coloured(text, {stand_in: f"var({variable})" for stand_in, variable in VARIABLES.items()})


def standalone(name: str, *draws: Draw) -> str:
    """Drawings side by side as an SVG file, in the light page's colours on white."""
    return _coloured(_svg(name, draws, transparent=False), {stand_in: LIGHT[variable] for stand_in, variable in VARIABLES.items()})


def colour(number: int) -> str:
    """Colour of a run, or of whatever else stands side by side."""
    return RUNS[number % len(RUNS)]


def marker(number: int) -> str:
    """Shape of its points, for readers and printers that do not tell colours apart."""
    return MARKERS[number % len(MARKERS)]


def legend(axes: Axes, entries: int) -> None:
    """Name what is drawn where it is more than one thing."""
    if entries > 1:
        axes.legend(loc="best")


def _svg(name: str, draws: tuple[Draw, ...], transparent: bool) -> str:
    buffer, (width, height) = io.StringIO(), INCHES
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width * len(draws), height), layout="constrained")
        for draw, axes in zip(draws, figure.subplots(1, len(draws), squeeze=False)[0], strict=True):
            draw(axes)
        figure.savefig(buffer, format="svg", transparent=transparent, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return buffer.getvalue()


def _coloured(text: str, colours: dict[str, str]) -> str:
    for stand_in, wanted in colours.items():
        text = text.replace(stand_in, wanted)
    return text
