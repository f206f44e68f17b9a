"""Accuracy against cost: the front, whose time counts, and what is said and drawn of it."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.analysis.accuracy_cost import cost_points, known_costs, pareto_front
from dashboards.analysis.comparison import comparison_frame, comparison_notes
from dashboards.figures.cost_figure import cost_figure
from dashboards.reports.wording import cost_in_words, front_in_words
from dashboards.store.runs import with_teachers_apart
from tests.dashboards.conftest import Record, frame_of, record

SECONDS = "train_seconds"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_on_the_front_is_who_is_dominated_by_nobody(points: list[tuple[int, int]]) -> None:
    costs, values = [c for c, _ in points], [v for _, v in points]
    for (cost, value), on_front in zip(points, pareto_front(costs, values), strict=True):
        dominated = any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points)
        assert on_front == (not dominated)


def offline_trials() -> list[Record]:
    """A pair by dml and kd, its networks alone, one seed each of two."""
    records = []
    for seed in (0, 1):
        more = 0.1 * seed
        scores = {"T1": (97.0, 97.0), "S1": (94.0 + more, 94.0 + more)}
        alone = {"S1": scores["T1"]}
        teacher = record((), ("wrn_16_2",), "vanilla", scores=alone, seconds=40.0, seed=seed)
        kd = record(
            method="kd",
            scores=scores | {"S1": (96.0, 95.0 + more)},
            seconds=10.0,
            seed=seed,
            teacher_trials=f"T1={teacher['trial_id']}",
        )
        records += [
            teacher,
            record((), ("resnet20",), "vanilla", scores={"S1": scores["S1"]}, seconds=9, seed=seed),
            record(method="dml", scores=scores, seconds=30.0, seed=seed),
            kd,
        ]
    return records


def row_of(frame: pd.DataFrame, method: str, network: str = "S1") -> pd.Series:
    rows = frame[(frame["method"] == method) & (frame["network"] == network)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_the_teachers_training_counts_and_its_frozen_network_does_not() -> None:
    frame = comparison_frame(frame_of(offline_trials()), "dml")
    kd = row_of(frame, "kd")
    assert (kd["train_seconds"], kd["teacher_seconds"]) == (50.0, 40.0)
    # 50 seconds against 30
    assert kd["time_saved"] == pytest.approx(1 - 50 / 30)
    # one row for both seeds, although each has a teacher of its own, and a baseline beside it
    assert (kd["seeds"], kd["axes"], kd["baseline"]) == (2, "", "dml")
    assert not ((frame["method"] == "kd") & (frame["network"] == "T1")).any()
    dml = row_of(frame, "dml")
    assert dml["train_seconds"] == 30.0
    assert math.isnan(dml["teacher_seconds"])


def test_a_teacher_that_is_not_there_is_told() -> None:
    trials = [each for each in offline_trials() if each["pair"] != "wrn_16_2"]
    frame = comparison_frame(frame_of(trials))
    assert row_of(frame, "kd")["train_seconds"] == 10.0
    notes = comparison_notes(frame_of(trials))
    assert "the training of 2 trained teachers is not among these trials" in " ".join(notes)
    assert "trained teacher" not in " ".join(comparison_notes(frame_of(offline_trials())))


def test_params_are_kept_as_if_all_were_trained_there() -> None:
    params = {"T1.model": "a", "T1.frozen": "true", "T1.trained_by": "abc", "S1.trained_by": "null"}
    kept, teachers = with_teachers_apart(params)
    assert kept == {"T1.model": "a", "T1.frozen": "false"}
    assert teachers == "T1=abc"
    from_file = {"T1.frozen": "true", "T1.trained_by": "null", "T1.weights_digest": "d"}
    assert with_teachers_apart(from_file) == (
        {"T1.frozen": "true", "T1.weights_digest": "d"},
        "",
    )


def test_points_are_the_students_and_the_same_network_alone() -> None:
    frame = comparison_frame(frame_of(offline_trials()))
    assert known_costs(frame) == [SECONDS], "these have no other costs"
    points = cost_points(frame, SECONDS)
    found = {row["method"]: (row["cost"], row["on_front"]) for _, row in points.iterrows()}
    # dml costs more than vanilla and is no better
    assert found == {"vanilla": (9.0, True), "dml": (30.0, False), "kd": (50.0, True)}
    assert front_in_words(points, SECONDS) == (
        "Worth their cost are 2 of 3 students: vanilla of resnet20 (94.05 %, 9.0 s), "
        "kd of wrn_16_2>resnet20 (95.05 %, 50 s)."
    )


def test_one_network_takes_one_time_whoever_has_taught_it() -> None:
    trials = offline_trials()
    for trial, milliseconds in zip(trials, (9, 2, 3, 7, 9, 2, 3, 7), strict=True):
        trial["metrics.parameters/S1"] = 100.0
        trial["metrics.milliseconds_per_image/S1"] = float(milliseconds)
    points = cost_points(comparison_frame(frame_of(trials)), "milliseconds_per_image")
    assert set(points["cost"]) == {3.0}


def test_the_figure_marks_the_front() -> None:
    points = cost_points(comparison_frame(frame_of(offline_trials())), SECONDS)
    figure = cost_figure(points, SECONDS)
    (front,) = [trace for trace in figure.data if trace.name == "Pareto front"]
    assert list(front.x) == [9.0, 50.0]
    symbols = {t.name: list(t.marker.symbol) for t in figure.data if t.mode == "markers"}
    assert symbols == {"vanilla": ["circle"], "dml": ["circle-open"], "kd": ["circle"]}
    assert "whose cost is known" in cost_figure(points.iloc[:0], SECONDS).layout.annotations[0].text


@pytest.mark.parametrize(
    ("value", "cost", "words"),
    [
        (200.0, SECONDS, "3 min 20 s"),
        (269722.0, "parameters", "269,722 parameters"),
        (2535040.0, "multiply_adds", "2.5 million multiply-adds"),
        (0.5132, "milliseconds_per_image", "0.51 ms"),
    ],
)
def test_costs_are_said_in_their_units(value: float, cost: str, words: str) -> None:
    assert cost_in_words(value, cost) == words
