"""Plots of a measured device: milliseconds of every signature, and bytes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jaxrec.report.drawing import INK, Draw, colour, inline, standalone
from jaxrec.report.tables import significant, size

BYTES = {
    "model_bytes": "model\nfile",
    "personal_bytes": "personal",
    "personal_state_bytes": "with\noptimizer",
    "candidates_bytes": "candi-\ndates",
    "user_vector_bytes": "user\nvector",
}
MOST_LEVEL = 5
"""Groups whose names have room beside each other."""

Bars = dict[str, dict[str, tuple[float, float]]]
"""{what stands side by side: {group: (height, end of its whisker)}}."""


def device_plots(devices: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Plots of the report as SVG by name; one run shows its numbers of threads side by side, several their first ones."""
    times, sizes = _times(devices), {name: _sizes(one) for name, one in devices.items()}
    drawn = {} if not any(times.values()) else {"device_times": inline("device_times", _draw_times(times))}
    return drawn | ({"device_bytes": inline("device_bytes", _draw_sizes(sizes))} if any(sizes.values()) else {})


def device_picture(device: dict[str, Any]) -> str:
    """Both plots of one measurement as an SVG file."""
    return standalone("measurement", _draw_times(_times({"": device})), _draw_sizes({"": _sizes(device)}))


def _times(devices: dict[str, dict[str, Any]]) -> Bars:
    if len(devices) > 1:
        return {name: _percentiles(one, one.get("workload", {})) for name, one in devices.items()}
    return {
        f"{threads} thread{'s' if threads != '1' else ''}": _percentiles(found, one.get("workload", {}))
        for one in devices.values()
        for threads, found in one.get("by_threads", {}).items()
    }


def _percentiles(found: dict[str, Any], signatures: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {name: (found[f"{name}_p50_ms"], found[f"{name}_p95_ms"]) for name in signatures}


def _sizes(device: dict[str, Any]) -> dict[str, tuple[float, float]]:
    known = {label: (device[key], device[key]) for key, label in BYTES.items() if key in device}
    return known if len(known) > 1 else {}


def _draw_times(bars: Bars) -> Draw:
    def draw(axes: Axes) -> None:
        _draw_bars(axes, bars, significant)
        axes.set(title="Milliseconds, median and 95th percentile")

    return draw


def _draw_sizes(bars: Bars) -> Draw:
    def draw(axes: Axes) -> None:
        _draw_bars(axes, bars, size)
        axes.set(title="Bytes")

    return draw


def _draw_bars(axes: Axes, bars: Bars, show: Callable[[float], str]) -> None:
    """Bars in groups, each group's side by side; with their values as text where there is room."""
    groups, width = list(dict.fromkeys(group for one in bars.values() for group in one)), 0.8 / len(bars)
    for number, (label, one) in enumerate(bars.items()):
        place = np.array([groups.index(group) for group in one]) + width * (number - (len(bars) - 1) / 2)
        heights, ends = np.array(list(one.values()), dtype=float).reshape(-1, 2).T
        drawn = axes.bar(place, heights, width * 0.9, color=colour(number), label=label)
        long = ends > heights
        axes.errorbar(place[long], heights[long], [0 * ends[long], (ends - heights)[long]], fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        if len(bars) == 1:
            axes.bar_label(drawn, [show(height) for height in heights], padding=2, fontsize=9)
    crowded = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if len(groups) > MOST_LEVEL else {}
    axes.set_xticks(range(len(groups)), [group.replace("_", " " if crowded else "\n") for group in groups], fontsize=9, **crowded)
    axes.set_yscale("log")
    if len(bars) > 1:
        # Above the bars, which start at the bottom wherever they end.
        axes.set_ylim(top=axes.get_ylim()[1] * 6)
        axes.legend(loc="upper center", ncols=len(bars), fontsize=9, handlelength=1, columnspacing=1)
