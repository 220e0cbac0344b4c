"""Plots of figures with intervals: every point and both ends of its interval stand where the numbers say."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxrec.report.points import draw_points, gain_by_own_events, models_by

MODELS = {"markov_user": {"recall@20": 0.4, "ci95": {"recall@20": [0.3, 0.6]}}, "global": {"recall@20": 0.5}}


def drawn(labels, figures):
    axes = Figure().subplots()
    draw_points(axes, labels, figures)
    return axes


def test_points_stand_at_their_figures_with_their_intervals():
    axes = drawn(["markov_user", "global"], {"shop": {"markov_user": (0.4, [0.3, 0.6]), "global": (0.5, None)}})
    assert [label.get_text() for label in axes.get_yticklabels()] == ["markov user", "global"]
    assert axes.yaxis_inverted(), "the first stands on top"
    points, _, (bars,) = axes.containers[0]
    np.testing.assert_allclose(points.get_xydata(), [[0.4, 0], [0.5, 1]])
    np.testing.assert_allclose([one[:, 0] for one in bars.get_segments()], [[0.3, 0.6], [0.5, 0.5]])


def test_an_interval_beside_its_figure_is_not_drawn_across_it():
    _, _, (bars,) = drawn(["a"], {"shop": {"a": (0.4, [0.5, 0.6])}}).containers[0]
    np.testing.assert_allclose(bars.get_segments()[0][:, 0], [0.4, 0.6])


def test_runs_stand_apart_and_are_told_apart_without_colours():
    axes = drawn(["a", "b"], {run: {"b": (0.5, None)} for run in "xyz"})
    assert len({container[0].get_marker() for container in axes.containers}) == 3
    np.testing.assert_allclose([container[0].get_ydata()[0] for container in axes.containers], [0.7, 1.0, 1.3])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["x", "y", "z"]


def test_models_without_the_metric_are_left_out_and_one_alone_compares_nothing():
    found = models_by("recall@20", {"shop": MODELS | {"other": {"mrr@20": 0.1}}})
    assert "markov user" in found and "with 95 % interval" in found and "other" not in found
    assert "interval" not in models_by("recall@20", {"shop": {"a": {"recall@20": 0.4}, "b": {"recall@20": 0.5}}})
    assert models_by("recall@20", {"shop": {"global": MODELS["global"]}}) is None and models_by("recall@20", {}) is None


@pytest.mark.parametrize("bins", [{}, {"shop": []}])
def test_no_users_no_plot(bins):
    assert gain_by_own_events(bins) is None
