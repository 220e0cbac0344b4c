"""Plots of figures with their 95 % intervals: one row of the plot per group of users or per model, runs beside each other."""

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from jaxrec.report.drawing import INK, colour, inline, legend, marker
from jaxrec.report.models import HEADLINE, Models, order

Bins = dict[str, list[dict[str, Any]]]
Figure = tuple[float, list[float] | None]
"""A figure and the limits of its interval, None where it is not known."""
LABEL_LETTERS = 16


def gain_by_own_events(bins: Bins) -> str | None:
    """Mean gain in Recall@20 by the number of events that a user's device holds; bins by the name of their run."""
    figures = {
        run: {one["own_events"]: (one["gain_recall@20"], one["gain_ci95_recall@20"]) for one in several} for run, several in bins.items()
    }
    labels = sorted({label for one in figures.values() for label in one}, key=lambda label: int(re.match(r"\d+", label).group()))
    if not labels:
        return None

    def draw(axes: Axes) -> None:
        draw_points(axes, labels, {run: one for run, one in figures.items() if one})
        axes.axvline(0, color=INK, linewidth=1)
        axes.set(title="Gain in Recall@20, with 95 % interval", ylabel="own events before the test")

    return inline("gain_by_own_events", draw)


def models_by(key: str, evaluations: Mapping[str, Models]) -> str | None:
    """A metric of every model that has it, by Recall@20; models by the name of their run. One model compares nothing."""
    figures = {
        run: {name: (one[key], one.get("ci95", {}).get(key)) for name, one in models.items() if key in one}
        for run, models in evaluations.items()
    }
    labels = [name for name in order(evaluations.values()) if any(name in one for one in figures.values())]
    if len(labels) < 2:
        return None

    def draw(axes: Axes) -> None:
        draw_points(axes, labels, {run: one for run, one in figures.items() if one})
        known = any(limits for one in figures.values() for _, limits in one.values())
        axes.set(title=f"{HEADLINE[key]}{', with 95 % interval' if known else ''}")

    return inline(f"models_{key.partition('@')[0]}", draw)


def draw_points(axes: Axes, labels: list[str], figures: Mapping[str, Mapping[str, Figure]]) -> None:
    """Points at the height of their label, the first on top; those of several runs a little apart."""
    for number, (run, one) in enumerate(figures.items()):
        shift = 0.3 * (number - (len(figures) - 1) / 2)
        _error_bars(axes, [labels.index(label) + shift for label in one], one.values(), run, number)
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_yticks(range(len(labels)), [textwrap.fill(label.replace("_", " "), LABEL_LETTERS) for label in labels])
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(5))
    legend(axes, len(figures))


def _error_bars(axes: Axes, y: list[float], figures: Iterable[Figure], run: str, number: int) -> None:
    values, limits = zip(*((value, limits or (value, value)) for value, limits in figures), strict=True)
    # A skewed bootstrap may leave the figure itself outside of its limits.
    spread = np.maximum((np.array(limits) - np.array(values)[:, np.newaxis]) * (-1, 1), 0).T
    axes.errorbar(values, y, xerr=spread, fmt=marker(number), color=colour(number), capsize=3, markersize=6, label=run)
