"""What the figures draw: their data, not their pixels."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd
import pytest

from dashboards.analysis.comparison import comparison_frame
from dashboards.analysis.swept_axes import lines_of, sensitivity_points, student_rows, swept_keys
from dashboards.figures.comparison_figures import (
    interval_figure,
    pair_matrix,
    parallel_coordinates,
    sensitivity_figure,
)
from dashboards.figures.theme import METHOD_COLOURS, SPARE_COLOURS, method_colour, translucent
from dashboards.figures.timeline_figure import LineName, line_colours
from switokd.methods import METHODS
from tests.dashboards.conftest import Record, frame_of, record


@pytest.fixture
def trials(quickstart: list[Record]) -> pd.DataFrame:
    return frame_of(quickstart)


def test_every_method_has_a_colour_of_its_own() -> None:
    assert set(METHODS) <= set(METHOD_COLOURS)
    assert len(set(METHOD_COLOURS.values())) == len(METHOD_COLOURS)
    assert method_colour("new") == method_colour("new")


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("ground", ["#FFFFFF", "#0E1117"])
def test_colours_stand_out_on_light_and_dark(ground: str) -> None:
    every = [*METHOD_COLOURS.values(), *SPARE_COLOURS]
    assert min(contrast(colour, ground) for colour in every) > 2.0


def test_variants_of_one_method_are_told_apart() -> None:
    names = {"a": "switokd", "b": "switokd", "c": "dml", "d": "switokd"}
    lines = {run_id: LineName(run_id, method) for run_id, method in names.items()}
    colours = line_colours(lines)
    assert (colours["a"], colours["c"]) == (METHOD_COLOURS["switokd"], METHOD_COLOURS["dml"])
    assert len(set(colours.values())) == 4
    assert {colours["b"], colours["d"]} <= set(SPARE_COLOURS)
    assert translucent("#0072B2", 0.2) == "rgba(0, 114, 178, 0.2)"


def test_intervals_are_those_of_the_comparison(trials: pd.DataFrame) -> None:
    frame = comparison_frame(trials)
    figure = interval_figure(frame)
    traces = {trace.name: trace for trace in figure.data if trace.name}
    assert set(traces) == {"vanilla", "dml", "switokd"}
    ours = frame[(frame["method"] == "switokd") & (frame["role"] == "student")]
    ours = ours.sort_values("last_mean", kind="stable")
    assert list(traces["switokd"].x) == pytest.approx(ours["last_mean"].tolist())
    high = [
        x + up for x, up in zip(traces["switokd"].x, traces["switokd"].error_x.array, strict=True)
    ]
    assert high == pytest.approx(ours["compared_interval_high"].tolist())
    # the seeds' own values, three of each row
    (seeds,) = [trace for trace in figure.data if trace.legendgroup == "switokd" and not trace.name]
    assert sorted(seeds.x) == pytest.approx(sorted(ours["compared_values"].explode()))
    assert traces["switokd"].marker.color == METHOD_COLOURS["switokd"]
    assert figure.layout.xaxis.title.text == "Student top-1, last epoch (%)"


def test_a_teachers_own_training_is_not_among_the_students(trials: pd.DataFrame) -> None:
    figure = interval_figure(comparison_frame(trials))
    (vanilla,) = [trace for trace in figure.data if trace.name == "vanilla"]
    assert list(vanilla.x) == pytest.approx([95.3])  # resnet20, the only student


def test_the_matrix_holds_the_best_of_each_pair(trials: pd.DataFrame) -> None:
    (heat,) = pair_matrix(comparison_frame(trials)).data
    assert list(heat.x) == ["resnet20"]
    assert list(heat.y) == ["wrn_16_2", "wrn_16_2+wrn_16_1"]
    assert heat.z.tolist() == [[pytest.approx(96.6)], [pytest.approx(96.6)]]
    assert heat.text[0][0] == "96.60<br>switokd τ=1"


def test_what_was_swept(trials: pd.DataFrame) -> None:
    assert swept_keys(student_rows(trials)) == ["temperature"]
    scores = {"T1": (1.0, 1.0), "S1": (1.0, 1.0)}
    rows = [record(scores=scores, epochs=epochs) for epochs in (4, 8)]
    rows += [record(scores=scores, settings=f"threshold={value}") for value in (0.2, 0.6)]
    assert swept_keys(student_rows(frame_of(rows))) == ["method.threshold", "recipe.epochs"]


def test_accuracy_against_temperature_with_intervals(trials: pd.DataFrame) -> None:
    points = sensitivity_points(student_rows(trials), "temperature", ["temperature"])
    line = points[points["line"] == "switokd · wrn_16_2>resnet20"]
    assert line["x"].tolist() == [1.0, 2.0]
    assert line["mean"].tolist() == pytest.approx([96.6, 96.3])
    frame = comparison_frame(trials).query("variant == 'switokd' and network == 'S1'")
    frame = frame[frame["pair"] == "wrn_16_2>resnet20"]
    assert line["low"].tolist() == pytest.approx(frame["compared_interval_low"].tolist())
    assert [tuple(map(float, values)) for values in line["values"]] == [
        pytest.approx(values) for values in frame["compared_values"]
    ]
    best = [points.loc[points["line"] == name, "mean"].max() for name in lines_of(points)]
    assert best == sorted(best, reverse=True)
    assert len(best) == 4
    figure = sensitivity_figure(points, "temperature")
    drawn = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert len(drawn) == 4
    assert {trace.line.color for trace in drawn} == {"#0072B2", "#E69F00"}
    assert figure.layout.xaxis.title.text == "temperature τ"


def test_another_swept_key_splits_the_lines() -> None:
    rows = [
        record(scores={"T1": (1, 1), "S1": (t * epochs, t * epochs)}, temperature=t, epochs=epochs)
        for t, epochs in itertools.product((1.0, 2.0), (4, 8))
    ]
    students = student_rows(frame_of(rows))
    points = sensitivity_points(students, "temperature", swept_keys(students))
    means = points.set_index(["line", "x"])["mean"].to_dict()
    name = "switokd · wrn_16_2>resnet20 recipe.epochs="
    assert means == {
        (name + "4", 1): 4,
        (name + "4", 2): 8,
        (name + "8", 1): 8,
        (name + "8", 2): 16,
    }


def test_words_make_a_category_axis_and_decades_a_logarithmic_one() -> None:
    columns = {"method": "switokd", "line": "a", "low": 1.0, "high": 2.0, "seeds": 1}
    words = pd.DataFrame({"x": ["0.2", "adaptive"], "mean": [1.0, 2.0]}).assign(**columns)
    words = words.assign(values=[(1.0,), (2.0,)], compared_epoch="last")
    assert sensitivity_figure(words, "method.threshold").layout.xaxis.type == "category"
    decades = words.assign(x=["0.5", "10"])
    axis = sensitivity_figure(decades, "temperature").layout.xaxis
    assert axis.type == "log"
    assert list(axis.ticktext) == ["0.5", "10"]


def test_an_axis_that_a_method_lacks_says_so_and_not_nan() -> None:
    points = pd.DataFrame({"method.threshold": [None, "0.6", "0.2"], "accuracy": [1.0, 2.0, 3.0]})
    (lines,) = parallel_coordinates(points, ["method.threshold"]).data
    assert list(lines.dimensions[0].ticktext) == ["–", "0.2", "0.6"]


def test_two_seeds_are_points_without_an_interval() -> None:
    rows = [
        record(scores={"T1": (60.0, 50.0 + 9 * seed), "S1": (60.0, 48.0 + 9 * seed)}, seed=seed)
        for seed in (0, 1)
    ]
    figure = interval_figure(comparison_frame(frame_of(rows)))
    seeds, mean = figure.data
    assert list(seeds.x) == [48.0, 57.0]
    assert pd.isna(mean.error_x.array).all()
    low, high = figure.layout.xaxis.range
    assert 46 < low < 48
    assert 57 < high < 59


def test_parallel_coordinates_take_words_as_categories() -> None:
    points = pd.DataFrame(
        {"method": ["dml", "switokd"], "recipe.epochs": ["8", "20"], "accuracy": [90.0, 91.0]}
    )
    (lines,) = parallel_coordinates(points, ["method", "recipe.epochs"]).data
    method, epochs, accuracy = lines.dimensions
    assert list(method.ticktext) == ["dml", "switokd"]
    assert list(epochs.ticktext) == ["8", "20"]  # by number, not by letter
    assert list(accuracy["values"]) == [90.0, 91.0]


@pytest.mark.parametrize("figure", [interval_figure, pair_matrix])
def test_nothing_finished_is_said_in_the_figure(figure: Any) -> None:
    drawn = figure(comparison_frame(frame_of([])))
    assert "No finished trial" in drawn.layout.annotations[0].text
