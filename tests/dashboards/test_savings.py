"""What waiting teachers saved: counted by hand, where it is known."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from dashboards.analysis.comparison import comparison_frame
from dashboards.analysis.leaderboard import leaderboard
from dashboards.analysis.savings import multiply_adds_saved
from dashboards.reports.html_page import table_html
from tests.dashboards.conftest import Record, frame_of, record

NAN = math.nan


@pytest.mark.parametrize(
    ("paused", "costs", "learns", "saved"),
    [
        # the teacher's backward pass is 2 * 40 of 3 * 50
        ([0.5, NAN], [40, NAN, 10], [1, NAN, 1], 0.5 * 80 / 150),
        ([0.0, NAN], [40, NAN, 10], [1, NAN, 1], 0.0),
        # each teacher by its own share
        ([0.25, 1.0], [40, 20, 10], [1, 1, 1], (0.25 * 80 + 40) / 210),
        # what is frozen goes forward alone
        ([0.5, NAN], [40, 20, 10], [1, 0, 1], 40 / 170),
        # nobody could wait, or it is not known what a network costs
        ([NAN, NAN], [NAN, NAN, 10], [NAN, NAN, 1], NAN),
        ([0.5, NAN], [NAN, NAN, 10], [1, NAN, 1], NAN),
    ],
)
def test_the_arithmetic_that_a_waiting_teacher_saves(
    paused: list[float], costs: list[float], learns: list[float], saved: float
) -> None:
    names = ["T1", "T2", "S1"]
    found = multiply_adds_saved(
        pd.DataFrame([paused], columns=names[:2]),
        pd.DataFrame([costs], columns=names),
        pd.DataFrame([learns], columns=names),
    )
    assert found.tolist() == pytest.approx([saved], nan_ok=True)


def test_with_several_students_it_is_the_teachers_own_share() -> None:
    costs = {"T1": 40, "S1": 10, "S2": 5}
    told: Record = {f"metrics.multiply_adds/{name}": cost for name, cost in costs.items()}
    told |= {"metrics.expert_share/T1-S1": 0.9, "metrics.expert_share/T1-S2": 0.5}
    told |= {"metrics.paused_share/T1": 0.4}
    scores = dict.fromkeys(costs, (90.0, 90.0))
    trial = record(students=("resnet20", "wrn_16_1"), scores=scores, **told)
    frame = comparison_frame(frame_of([trial]))
    assert frame["updates_saved"].tolist() == pytest.approx([0.4] * 3)
    assert frame["multiply_adds_saved"].tolist() == pytest.approx([0.4 * 80 / 165] * 3)
    table = leaderboard(frame, "vanilla", "http://ui")
    assert table["multiply-adds saved"].tolist() == pytest.approx([100 * 0.4 * 80 / 165])
    assert "19 %" in table_html(table)
