"""Plots of training and of what users gain, as SVG elements of the page."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from jaxrec.report.drawing import FAINT, GAIN, INK, LOSS, colour, inline, legend
from jaxrec.report.models import Models
from jaxrec.report.points import Bins, gain_by_own_events, models_by

MOST_POINTS = 400

Histories = dict[str, list[dict[str, Any]]]
Users = dict[str, pd.DataFrame]


def plots(histories: Histories, users: Users, bins: Bins, evaluations: Mapping[str, Models]) -> dict[str, str]:
    """Every plot that there is something to draw for, as SVG by name; each argument holds what it draws by the name of its run."""
    makers = {
        "training_loss": lambda: training_loss(histories),
        "validation_recall": lambda: validation_recall(histories),
        "gain_histogram": lambda: gain_histogram(users),
        "gain_by_own_events": lambda: gain_by_own_events(bins),
        "models_recall": lambda: models_by("recall@20", evaluations),
        "models_mrr": lambda: models_by("mrr@20", evaluations),
    }
    drawn = {name: make() for name, make in makers.items()}
    return {name: svg for name, svg in drawn.items() if svg is not None}


def training_loss(histories: Histories) -> str | None:
    """Training loss by updates; the run that chose the number of epochs is dashed."""
    series = _series(histories, "loss")
    return _lines("training_loss", "Training loss", series, marker="") if series else None


def validation_recall(histories: Histories) -> str | None:
    """Recall@20 on the validation part after each epoch."""
    series = _series(histories, "recall@20")
    return _lines("validation_recall", "Recall@20 on the validation part", series, marker="o") if series else None


def gain_histogram(users: Users) -> str | None:
    """How each user's own Recall@20 changed; users without a change are a bar of their own."""
    users = {name: one for name, one in users.items() if len(one)}
    if not users:
        return None

    def draw(axes: Axes) -> None:
        gains = {name: (one["after_recall@20"] - one["before_recall@20"]).to_numpy(dtype=float) for name, one in users.items()}
        (_one_histogram if len(gains) == 1 else _outlines)(axes, gains)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set(title="Gain in a user's own Recall@20", xlabel="worse  ←  change  →  better", ylabel="share of users")
        axes.xaxis.set_major_locator(MaxNLocator(5, symmetric=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=None))

    return inline("gain_histogram", draw)


def thin(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` points, each the mean of as many neighbours.

    >>> thin(np.array([1, 2, 3, 4]), np.array([1.0, 3.0, 5.0, 7.0]), most=2)[1].tolist()
    [2.0, 6.0]
    """
    if len(x) <= most:
        return x, y
    parts = np.array_split(np.arange(len(x)), most)
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


def _series(histories: Histories, key: str) -> list[tuple[str, str, str, np.ndarray, np.ndarray]]:
    """(label, colour, line style, updates, values) of every run and phase that has the key."""
    found = []
    for number, (name, history) in enumerate(histories.items()):
        for phase in dict.fromkeys(line.get("phase", "final") for line in history):
            points = [(line["updates"], line[key]) for line in history if line.get("phase", "final") == phase and line.get(key) is not None]
            if points:
                label = phase if len(histories) == 1 else f"{name}, {phase}"
                x, y = (np.array(column, dtype=float) for column in zip(*points, strict=True))
                found.append((label, colour(number), "--" if phase == "selection" else "-", x, y))
    return found


def _lines(name: str, title: str, series: list, marker: str) -> str:
    def draw(axes: Axes) -> None:
        for label, hue, style, x, y in series:
            axes.plot(*thin(x, y), style, color=hue, marker=marker, markersize=4, linewidth=1.6, label=label)
        axes.set(title=title, xlabel="updates")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        legend(axes, len(series))

    return inline(name, draw)


def _one_histogram(axes: Axes, gains: dict[str, np.ndarray]) -> None:
    (values,) = gains.values()
    edges = np.linspace(0, _reach(gains), 11)
    worse, better = np.histogram(-values[values < 0], edges)[0], np.histogram(values[values > 0], edges)[0]
    width, middle = edges[1], (edges[1:] + edges[:-1]) / 2
    axes.bar(middle, better / len(values), width * 0.9, color=GAIN)
    axes.bar(-middle, worse / len(values), width * 0.9, color=LOSS)
    same, highest = float(np.mean(values == 0)), float(max(worse.max(), better.max())) / len(values)
    axes.bar(0, same, width * 0.35, color=FAINT)
    # Most users often see no change at all: their bar would flatten every other one.
    top = max(1.35 * highest, 1e-3) if highest else 1.0
    axes.set_ylim(0, top)
    cut = "\n(bar cut)" if same > top else ""
    axes.annotate(f"no change: {same:.0%}{cut}", (1, 1), (0, -4), "axes fraction", "offset points", ha="right", va="top", fontsize=10.5)


def _outlines(axes: Axes, gains: dict[str, np.ndarray]) -> None:
    reach = _reach(gains)
    edges = np.linspace(-reach, reach, 22)  # an odd number of bins: one of them is centred on zero
    for number, (name, values) in enumerate(gains.items()):
        axes.stairs(np.histogram(values, edges)[0] / len(values), edges, color=colour(number), linewidth=1.6, label=name)
    legend(axes, len(gains))


def _reach(gains: dict[str, np.ndarray]) -> float:
    """How far the axis goes: no user lies beyond it."""
    return max(0.1, *(float(np.abs(values).max()) for values in gains.values()))
