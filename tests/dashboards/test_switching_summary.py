"""What the switch did, by hand: windows of unequal length, and a teacher of two students."""

from __future__ import annotations

import pandas as pd
import pytest

from dashboards.analysis.switching_summary import paused_shares, switching_summary


def points(link: str, *windows: tuple[int, float, float, float]) -> pd.DataFrame:
    columns = ["step", "gap", "threshold", "expert"]
    return pd.DataFrame(windows, columns=columns).assign(run_id="a", link=link)


def paused(*windows: tuple[int, float]) -> pd.DataFrame:
    frame = pd.DataFrame(windows, columns=["step", "value"])
    return frame.assign(run_id="a", metric="paused/T1")


def test_windows_count_by_their_steps() -> None:
    line = points("T1-S1", (4, 1.0, 0.5, 1.0), (8, 0.8, 0.5, 0.5), (10, 0.4, 0.2, 0.0))
    (row,) = switching_summary(line, paused((4, 1.0), (8, 0.5), (10, 0.0))).to_dict("records")
    # four steps, four, and the last two
    assert row["gap"] == pytest.approx((4 * 1.0 + 4 * 0.8 + 2 * 0.4) / 10)
    assert row["threshold"] == pytest.approx((4 * 0.5 + 4 * 0.5 + 2 * 0.2) / 10)
    assert row["expert"] == pytest.approx((4 + 2) / 10)
    assert row["updates_saved"] == pytest.approx((4 + 2) / 10)
    assert row["gap_at_end"] == 0.4
    assert row["expert_at_last"] == 0.0


def test_the_first_and_the_last_fifth() -> None:
    line = points("T1-S1", *((step, 1.0, 0.5, float(step > 7)) for step in range(1, 11)))
    (row,) = switching_summary(line, paused()).to_dict("records")
    assert (row["expert_at_first"], row["expert_at_last"]) == (0.0, 1.0)
    assert pd.isna(row["updates_saved"])


def test_a_teacher_of_two_students_saves_less_than_either_link_waits() -> None:
    lines = [points(f"T1-S{student}", (10, 1.0, 0.5, 0.5)) for student in (1, 2)]
    frame = switching_summary(pd.concat(lines), paused((10, 0.2)))
    assert frame["updates_saved"].tolist() == [0.2, 0.2]
    assert frame["expert"].tolist() == [0.5, 0.5]


def test_other_metrics_are_no_pauses() -> None:
    assert paused_shares(paused((10, 0.2)).assign(metric="val_top1/T1")) == {}
