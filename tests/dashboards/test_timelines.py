from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from dashboards.analysis.windows import (
    accuracy_points,
    averaged,
    links_of,
    resampled,
    step_points,
    window_points,
)
from dashboards.figures.timeline_figure import LineName, timeline_figure


def points_of(run_id: str, gaps: list[float], link: str = "T1-S1") -> pd.DataFrame:
    count = len(gaps)
    return pd.DataFrame(
        {
            "run_id": run_id,
            "link": link,
            "step": range(1, count + 1),
            "gap": gaps,
            "threshold": [0.5] * count,
            "expert": [float(gap > 0.5) for gap in gaps],
            "would_be_expert": math.nan,
        }
    )


@pytest.fixture
def timeline() -> pd.DataFrame:
    """Ten steps of two links; the gap of T1-S1 is a tenth of the step.

    The teacher is nearer to the labels but in step 7.
    """
    step = np.arange(1, 11)
    one = {"epoch": 1, "threshold": 0.5, "teacher": "T1", "epsilon": 0.0}
    one |= {"student_distance": 1.0, "teacher_distance": [*[0.5] * 6, 1.5, *[0.5] * 3] * 2}
    first = pd.DataFrame({"step": step, "gap": step / 10, "student": "S1", "expert": step > 5})
    other = pd.DataFrame({"step": step, "gap": 2.0, "student": "S2", "expert": False})
    return pd.concat([first, other]).assign(**one)


def test_single_steps_of_one_link_are_exact(timeline: pd.DataFrame) -> None:
    points = step_points(timeline, "run", "T1-S1", 4, 7, limit=100)
    assert points["step"].tolist() == [4, 5, 6, 7]
    assert points["gap"].tolist() == [0.4, 0.5, 0.6, 0.7]
    assert points["expert"].tolist() == [0, 0, 1, 1]
    assert points["would_be_expert"].tolist() == [0, 0, 1, 0]
    assert set(points["link"]) == {"T1-S1"}


def test_a_wide_range_is_resampled_to_windows(timeline: pd.DataFrame) -> None:
    points = step_points(timeline, "run", "T1-S1", 1, 10, limit=4)
    # windows of three steps, the last one shorter, each at its last step
    assert points["step"].tolist() == [3, 6, 9, 10]
    assert points["gap"].tolist() == pytest.approx([0.2, 0.5, 0.8, 1.0])
    assert points["expert"].tolist() == pytest.approx([0, 1 / 3, 1, 1])


def test_resampling_keeps_runs_and_links_apart() -> None:
    points = pd.concat([points_of("a", [0.0] * 6), points_of("b", [1.0] * 6)])
    merged = resampled(points, 2)
    assert merged.groupby("run_id")["gap"].agg(["size", "mean"]).to_numpy().tolist() == [
        [2, 0.0],
        [2, 1.0],
    ]


def test_few_points_stay_as_they_are() -> None:
    points = points_of("a", [0.1, 0.9])
    pd.testing.assert_frame_equal(resampled(points, 2), points)


def test_windows_from_the_store_become_points() -> None:
    histories = pd.DataFrame(
        [
            ("run", "gap/T1-S1", 5, 0.7),
            ("run", "threshold/T1-S1", 5, 0.4),
            ("run", "expert/T1-S1", 5, 0.6),
            ("run", "would_be_expert/T1-S1", 5, 0.8),
            ("run", "val_top1/S1", 1, 90.0),
        ],
        columns=["run_id", "metric", "step", "value"],
    )
    (point,) = window_points(histories).to_dict("records")
    assert point == {
        **{"run_id": "run", "link": "T1-S1", "step": 5},
        **{"gap": 0.7, "threshold": 0.4, "expert": 0.6, "would_be_expert": 0.8},
    }
    assert window_points(histories.iloc[:0]).empty


def test_means_over_seeds_with_their_deviation() -> None:
    points = pd.concat([points_of("a", [0.2, 0.4]), points_of("b", [0.6, 0.8, 0.9])])
    means = averaged(points, pd.Series({"a": "group", "b": "group"}))
    # step 3 has one run of two
    assert means["step"].tolist() == [1, 2]
    assert means["gap"].tolist() == pytest.approx([0.4, 0.6])
    assert means["gap_std"].tolist() == pytest.approx([0.2828427, 0.2828427])
    assert means["expert"].tolist() == [0.5, 0.5]
    assert set(means["run_id"]) == {"group"}


def test_accuracy_stands_at_the_last_step_of_its_epoch() -> None:
    trials = pd.DataFrame(
        {
            "run_id": ["a", "b"],
            "params.recipe.epochs": ["4", "4"],
            "status": ["FINISHED", "RUNNING"],
        }
    )
    histories = pd.DataFrame(
        [("a", "val_top1/S1", epoch, 90.0 + epoch) for epoch in (1, 2, 3, 4)]
        + [("b", "val_top1/S1", 1, 50.0), ("a", "lr/S1", 1, 0.1)],
        columns=["run_id", "metric", "step", "value"],
    )
    points = accuracy_points(histories, trials, pd.Series({"a": 40, "b": 15}))
    finished = points[points["run_id"] == "a"]
    assert finished["step"].tolist() == [10, 20, 30, 40]
    assert finished["value"].tolist() == [91, 92, 93, 94]
    # one epoch and a half is done
    assert points[points["run_id"] == "b"]["step"].tolist() == [10]


def test_links_are_found_in_the_metrics() -> None:
    trials = pd.DataFrame({"metrics.gap/T2-S1": [0.1], "metrics.gap/T1-S1": [0.1]})
    assert links_of(trials.assign(**{"metrics.gap/T3-S1": [None]})) == ["T1-S1", "T2-S1"]


def figure_points() -> tuple[pd.DataFrame, pd.DataFrame, dict[str, LineName]]:
    points = pd.concat([points_of("a", [0.6, 0.4, 0.7]), points_of("b", [0.3, 0.2, 0.1])])
    accuracies = pd.DataFrame(
        {
            "run_id": ["a", "a"],
            "network": ["S1", "T1"],
            "epoch": [1, 1],
            "step": [3.0, 3.0],
            "value": [91.0, 95.0],
        }
    )
    names = {"a": LineName("ours", "switokd"), "b": LineName("theirs", "dml")}
    return points, accuracies, names


def test_the_figure_draws_gap_threshold_mode_and_accuracy_on_one_axis() -> None:
    figure = timeline_figure(*figure_points())
    traces = {trace.name: trace for trace in figure.data if trace.name}
    assert list(traces["ours gap"].y) == [0.6, 0.4, 0.7]
    assert list(traces["ours threshold"].y) == [0.5, 0.5, 0.5]
    assert traces["ours threshold"].line.dash == "dot"
    modes = [trace for trace in figure.data if trace.type == "heatmap"]
    assert [mode.z.tolist() for mode in modes] == [[[1, 0, 1]], [[0, 0, 0]]]
    # a window's bar ends at its last step
    assert [list(mode.x) for mode in modes] == [[0, 1, 2, 3]] * 2
    assert list(traces["ours · T1"].y) == [95.0]
    assert {figure.layout[axis].matches for axis in ("xaxis", "xaxis2")} == {"x3"}
    assert figure.layout.xaxis3.title.text == "training step"
    assert figure.layout.yaxis3.title.text == "top-1 (%)"


def test_a_line_has_its_methods_colour() -> None:
    traces = {trace.name: trace for trace in timeline_figure(*figure_points()).data if trace.name}
    assert traces["ours gap"].line.color == "#0072B2"
    assert traces["theirs gap"].line.color == "#E69F00"


def test_deviation_over_seeds_is_a_band() -> None:
    points, accuracies, names = figure_points()
    points = points[points["run_id"] == "a"].assign(gap_std=0.1)
    upper, lower = timeline_figure(points, accuracies, names).data[:2]
    assert list(upper.y) == pytest.approx([0.7, 0.5, 0.8])
    assert list(lower.y) == pytest.approx([0.5, 0.3, 0.6])
    assert lower.fill == "tonexty"


def test_no_points_say_so() -> None:
    points, accuracies, names = figure_points()
    figure = timeline_figure(points.iloc[:0], accuracies, names)
    assert "No timeline" in figure.layout.annotations[0].text


def test_a_line_that_never_switches_shows_what_a_switch_would_have_done() -> None:
    points, accuracies, names = figure_points()
    points = points[points["run_id"] == "b"].assign(would_be_expert=[0.0, 1.0, 1.0])
    figure = timeline_figure(points, accuracies, names)
    (bar,) = [trace for trace in figure.data if trace.type == "heatmap"]
    assert bar.z.tolist() == [[0.0, 1.0, 1.0]]
    assert "had it a switch" in bar.hovertemplate
    assert any(note.text == "theirs (had it a switch)" for note in figure.layout.annotations)
