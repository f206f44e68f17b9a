from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from dashboards.analysis.comparison import comparison_frame
from dashboards.analysis.leaderboard import leaderboard, run_table, runs_url
from dashboards.analysis.running import failures, progress_table
from switokd.tracking.ui import ui_address
from tests.dashboards.conftest import Record, frame_of, record


def test_one_row_per_trial_less_seed_best_student_first(quickstart: list[Record]) -> None:
    frame = comparison_frame(frame_of(quickstart))
    table = leaderboard(frame, "vanilla", "http://ui")
    assert len(table) == frame["group"].nunique() == 11
    assert table["method"].tolist()[:2] == ["switokd", "switokd"]
    assert table["method"].tolist()[-3:] == ["vanilla"] * 3
    first = table.iloc[0]
    assert first["S1 top-1"] == pytest.approx(96.6)
    assert first["S1 − vanilla"] == pytest.approx(1.3)
    assert first["updates saved"] == pytest.approx(31)
    assert first["expert steps"] == pytest.approx(31)
    assert first["time saved"] == pytest.approx(25)
    assert table["T2 top-1"].notna().sum() == 4
    # digits are not in the paper: no empty columns
    assert not [name for name in table if "paper" in name]
    # what is compared and what it cost stand first
    names = ["method", "τ", "pair", "seeds", "S1 top-1", "S1 ±", "S1 − vanilla", "S1 p Holm"]
    assert list(table)[:11] == [*names, "updates saved", "expert steps", "seconds"]


def test_runs_lead_to_mlflow(quickstart: list[Record]) -> None:
    assert ui_address("sqlite:///runs/mlflow.db") == "http://127.0.0.1:5000"
    assert ui_address("https://tracking.lab:5000/") == "https://tracking.lab:5000"
    assert (
        runs_url("http://ui", ("1",), ("a",))
        == "http://ui/#/experiments/1/runs/a?workflowType=machine_learning"
    )
    several = runs_url("http://ui", ("1", "1"), ("a", "b"))
    assert several == (
        "http://ui/#/compare-runs?runs=%5B%22a%22%2C%20%22b%22%5D&experiments=%5B%221%22%5D"
        "&workflowType=machine_learning"
    )
    table = run_table(frame_of(quickstart), "http://ui")
    assert len(table) == len(quickstart)
    assert table["S1 top-1"].iloc[0] == quickstart[0]["metrics.last_val_top1/S1"]


def progress_of(trial: Record, points: list[tuple[int, float, int]]) -> Any:
    """The progress of one trial at 100 s, from its (epoch, top-1, second) points."""
    start = pd.Timestamp("2026-01-01", tz="UTC")
    trials = frame_of([trial | {"start_time": start.value // 10**6}])
    histories = pd.DataFrame(
        [
            (trial["run_id"], "val_top1/S1", epoch, value, start + pd.Timedelta(seconds=at))
            for epoch, value, at in points
        ],
        columns=["run_id", "metric", "step", "value", "time"],
    )
    (row,) = progress_table(trials, histories, start + pd.Timedelta(seconds=100)).to_dict("records")
    return row


@pytest.fixture
def running() -> Record:
    scores = {"T1": (0.0, 0.0), "S1": (0.0, 0.0)}
    return record(scores=scores, status="RUNNING", epochs=10)


def test_time_left_comes_from_the_pace(running: Record) -> None:
    # the first epoch took 50 s (it compiles), the others 20 s each
    row = progress_of(running, [(1, 40.0, 50), (2, 60.0, 70), (3, 70.0, 90)])
    assert (row["epoch"], row["epochs"], row["progress"]) == (3, 10, 0.3)
    assert row["S1 top-1"] == 70.0
    assert row["elapsed_seconds"] == 100
    assert row["left_seconds"] == 7 * 20 - 10
    assert row["silent_seconds"] == 10


def test_a_continued_trial_counts_no_time_before_its_start(running: Record) -> None:
    # three epochs of the shorter trial, seven minutes ago, 30 s each
    taken = [(1, 40.0, -480), (2, 50.0, -450), (3, 60.0, -420)]
    row = progress_of(running, taken)
    assert (row["epoch"], row["taken_over"]) == (3, 3)
    assert (row["elapsed_seconds"], row["silent_seconds"]) == (100, 100)
    assert row["left_seconds"] == 7 * 30 - 30
    assert row["curve"] == [40.0, 50.0, 60.0]
    # two of its own say more than those taken over
    row = progress_of(running, [*taken, (4, 61.0, 40), (5, 62.0, 90)])
    assert (row["taken_over"], row["silent_seconds"]) == (3, 10)
    assert row["left_seconds"] == 5 * 50 - 10


def test_a_pause_is_no_pace(running: Record) -> None:
    points = [(1, 1.0, 10), (2, 2.0, 20), (3, 3.0, 80), (4, 4.0, 90)]
    assert progress_of(running, points)["left_seconds"] == 6 * 10 - 10


def test_the_live_gap_and_what_the_accuracy_is_of(running: Record) -> None:
    last = {"metrics.gap/T1-S1": 0.4, "metrics.gap/T2-S1": 0.6, "metrics.expert/T1-S1": 0.25}
    row = progress_of(running | last, [])
    assert (row["gap"], row["expert"], row["measured_on"]) == (0.5, 0.25, "test set")
    held = progress_of(running | {"params.recipe.holdout": "0.1"}, [])
    assert held["measured_on"] == "hold-out"
    assert pd.isna(held["gap"])


def test_before_the_second_epoch_the_time_left_is_unknown(running: Record) -> None:
    row = progress_of(running, [])
    assert row["epoch"] == 0
    assert row["silent_seconds"] == 100
    assert pd.isna(row["left_seconds"])
    assert pd.isna(progress_of(running, [(1, 40.0, 50)])["left_seconds"])


def test_failures_say_why() -> None:
    scores = {"T1": (0.0, 0.0), "S1": (0.0, 0.0)}
    why = {"tags.switokd.failure": "loss of S1 is not finite at step 211"}
    rows = [
        record(scores=scores, status="FAILED", **why),
        record(scores=scores, status="FAILED", seed=1),
        record(scores=scores, seed=2),
    ]
    assert failures(frame_of(rows))["reason"].tolist() == [
        "loss of S1 is not finite at step 211",
        "no reason was left",
    ]
