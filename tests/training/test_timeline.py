"""The timeline: what it keeps, its windows, its file, and when it raises."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from switokd.methods.base import CohortStep
from switokd.switching import SwitchState
from switokd.training.timeline import (
    BLOCK_STEPS,
    DivergedError,
    Timeline,
    WindowMean,
    column_names,
    window_size,
)

NETWORKS = ("T1", "T2", "S1")
LINKS = (("T1", "S1"), ("T2", "S1"))
COLUMNS = (
    "step",
    "epoch",
    "teacher",
    "student",
    "gap",
    "threshold",
    "epsilon",
    "teacher_distance",
    "student_distance",
    "expert",
)


def made_up_step(number: int) -> CohortStep:
    """A step all of whose numbers tell the step, the link and the field."""
    links = {
        link: SwitchState(
            gap=torch.tensor(number + 0.01 * (at + 1)),
            threshold=torch.tensor(number + 0.02 * (at + 1)),
            epsilon=torch.tensor(number + 0.03 * (at + 1)),
            student_distance=torch.tensor(number + 0.04 * (at + 1)),
            teacher_distance=torch.tensor(number + 0.05 * (at + 1)),
            # T1 at every second step, T2 at every third
            expert=torch.tensor(number % (at + 2) == 0),
        )
        for at, link in enumerate(LINKS)
    }
    return CohortStep(
        losses={
            name: torch.tensor(10.0 * number + at, requires_grad=True)
            for at, name in enumerate(NETWORKS)
        },
        cross_entropies={
            name: torch.tensor(-float(number + at)) for at, name in enumerate(NETWORKS)
        },
        links=links,
    )


def recorded(steps: int) -> Timeline:
    timeline = Timeline(NETWORKS, LINKS, dtype=torch.float64)
    for number in range(1, steps + 1):
        timeline.record(made_up_step(number), images=8)
    return timeline


@pytest.mark.parametrize("steps", [1, BLOCK_STEPS, 2 * BLOCK_STEPS + 3])
def test_every_step_of_every_link_is_kept(steps: int) -> None:
    timeline = recorded(steps)
    numbers = np.arange(1, steps + 1)
    assert len(timeline) == steps
    for at, link in enumerate(LINKS, start=1):
        switch = timeline.switch(link)
        for field, offset in (
            ("gap", 0.01),
            ("threshold", 0.02),
            ("epsilon", 0.03),
            ("student_distance", 0.04),
            ("teacher_distance", 0.05),
        ):
            np.testing.assert_allclose(switch[field], numbers + offset * at, rtol=1e-6)
        np.testing.assert_array_equal(switch["expert"], numbers % (at + 1) == 0)
    for at, name in enumerate(NETWORKS):
        loss, cross_entropy = timeline.losses(name)
        assert loss.tolist() == (10.0 * numbers + at).tolist()
        assert cross_entropy.tolist() == (-(numbers + at)).tolist()


def test_nothing_comes_over_before_a_block_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    timeline, transfers = Timeline(NETWORKS, LINKS), []
    flush = timeline.flush
    monkeypatch.setattr(timeline, "flush", lambda: (transfers.append(len(timeline)), flush()))
    for number in range(1, BLOCK_STEPS + 2):
        timeline.record(made_up_step(number), images=8)
    assert transfers == [BLOCK_STEPS]


def test_epoch_means_count_images_not_steps() -> None:
    timeline = Timeline(NETWORKS, LINKS, dtype=torch.float64)
    for number, images in ((1, 100), (2, 6), (3, 2)):
        timeline.record(made_up_step(number), images)
    assert timeline.mean_losses("T1", steps=2) == pytest.approx(((6 * 20 + 2 * 30) / 8, -18 / 8))
    assert timeline.mean_losses("S1", steps=1) == pytest.approx((32.0, -5.0))
    assert (timeline.images(steps=2), timeline.images(steps=3)) == (8, 108)


def test_a_teacher_waits_where_all_its_links_do() -> None:
    timeline = Timeline(("T1", "S1", "S2"), [("T1", "S1"), ("T1", "S2")])
    assert timeline.paused_share("T1") == 0
    modes = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0)]
    one = torch.tensor(1.0)
    for both in modes:
        states = {
            link: SwitchState(one, one, one, one, one, torch.tensor(mode))
            for link, mode in zip(timeline.links, both, strict=True)
        }
        losses = dict.fromkeys(timeline.networks, one)
        timeline.record(CohortStep(losses, losses, states, frozenset()), 8)
    assert timeline.paused_share("T1") == pytest.approx(2 / 5)
    assert timeline.expert_share(("T1", "S1")) == pytest.approx(3 / 5)


def test_the_expert_share_is_over_all_steps_so_far() -> None:
    timeline = recorded(9)
    assert timeline.expert_share(("T1", "S1")) == pytest.approx(4 / 9)
    assert timeline.expert_share(("T2", "S1")) == pytest.approx(3 / 9)
    assert Timeline(NETWORKS, LINKS).expert_share(("T1", "S1")) == 0


def test_a_timeline_goes_on_from_saved_rows() -> None:
    first = recorded(300)
    state = first.state_dict()
    second = Timeline(NETWORKS, LINKS, dtype=torch.float64)
    second.load_state_dict({"columns": state["columns"], "rows": state["rows"].clone()})
    for timeline in (first, second):
        for number in range(301, 700):
            timeline.record(made_up_step(number), images=8)
    assert len(second) == 699
    assert torch.equal(first.rows(), second.rows())


def test_columns_are_taken_up_by_their_names() -> None:
    """Of a version that had them in another order, lacked one, and had one that is gone."""
    first = recorded(20)
    state = first.state_dict()
    kept = [name for name in state["columns"] if name != "epsilon/T2-S1"][::-1]
    rows = torch.stack([state["rows"][:, state["columns"].index(name)] for name in kept], dim=1)
    rows = torch.cat([rows, torch.full((20, 1), 77.0)], dim=1)
    second = Timeline(NETWORKS, LINKS, dtype=torch.float64)
    second.load_state_dict({"columns": [*kept, "coolness/T1-S1"], "rows": rows})
    for link in LINKS:
        for field, values in first.switch(link).items():
            if (field, link) == ("epsilon", ("T2", "S1")):
                assert np.isnan(second.switch(link)[field]).all()
            else:
                np.testing.assert_array_equal(second.switch(link)[field], values)
    for name in NETWORKS:
        assert torch.equal(second.losses(name)[0], first.losses(name)[0])
    assert second.images(20) == 160
    assert not any(math.isnan(window.value) for window in second.windows(20, 0, ended=True))


@pytest.mark.parametrize(
    ("total", "size"),
    [(1, 1), (1999, 1), (2000, 1), (2001, 2), (4000, 2), (4001, 3), (117_300, 59)],
)
def test_a_window_is_a_two_thousandth_of_the_trial_rounded_up(total: int, size: int) -> None:
    assert window_size(total) == size
    assert math.ceil(total / size) <= 2000


def by_series(windows: list[WindowMean]) -> dict[tuple[str, tuple[str, ...]], dict[int, float]]:
    series: dict[tuple[str, tuple[str, ...]], dict[int, float]] = {}
    for window in windows:
        points = series.setdefault((window.quantity, window.subject), {})
        assert window.step not in points, "a window is there twice"
        points[window.step] = window.value
    return series


def test_windows_hold_means_at_their_last_step() -> None:
    """5,000 steps make windows of 3; after 8 steps two of them are whole."""
    series = by_series(list(recorded(8).windows(total_steps=5000, after=0)))
    link = ("T1", "S1")
    assert series.keys() == {
        *((quantity, each) for quantity in ("gap", "threshold", "expert") for each in LINKS),
        ("paused", ("T1",)),
        ("paused", ("T2",)),
    }
    assert series["gap", link] == pytest.approx({3: 2.01, 6: 5.01})
    assert series["threshold", ("T2", "S1")] == pytest.approx({3: 2.04, 6: 5.04})
    assert series["expert", link] == pytest.approx({3: 1 / 3, 6: 2 / 3})
    assert series["paused", ("T2",)] == pytest.approx({3: 1 / 3, 6: 1 / 3})


def test_a_teacher_of_two_is_paused_where_both_links_are_expert() -> None:
    timeline = Timeline(("T1", "S1", "S2"), (("T1", "S1"), ("T1", "S2")))
    for number in range(1, 7):
        state = made_up_step(number).links
        links = dict(zip(timeline.links, state.values(), strict=True))
        values = {name: torch.tensor(1.0) for name in timeline.networks}
        timeline.record(CohortStep(values, values, links), images=8)
    series = by_series(list(timeline.windows(total_steps=6, after=0)))
    assert series["paused", ("T1",)] == {1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 1}
    assert ("paused", ("S1",)) not in series


def test_the_last_window_may_be_a_partial_one() -> None:
    """2,101 steps make windows of 2: the last has one step."""
    timeline = recorded(2101)
    series = by_series(list(timeline.windows(total_steps=2101, after=2094)))
    assert list(series["gap", LINKS[0]]) == [2096, 2098, 2100, 2101]
    assert series["gap", LINKS[0]][2101] == pytest.approx(2101.01)
    assert list(timeline.windows(total_steps=2101, after=2101)) == []


@pytest.mark.parametrize("stops", [[4], [3, 6], [1, 2, 4, 5, 7], list(range(1, 11))])
def test_windows_asked_for_in_parts_are_those_of_the_whole(stops: list[int]) -> None:
    """Also where a part ends in the middle of a window, and after a resume from saved rows."""
    total = 5000
    timeline, windows, after = Timeline(NETWORKS, LINKS, dtype=torch.float64), [], 0
    for stop in [*stops, 12]:
        resumed = Timeline(NETWORKS, LINKS, dtype=torch.float64)
        resumed.load_state_dict(timeline.state_dict())
        timeline = resumed
        for number in range(after + 1, stop + 1):
            timeline.record(made_up_step(number), images=8)
        windows += list(timeline.windows(total, after))
        after = stop
    assert by_series(windows) == by_series(list(recorded(12).windows(total, 0)))


def test_the_file_has_every_step_of_every_link(tmp_path: Path) -> None:
    path = tmp_path / "timeline.parquet"
    recorded(10).write_parquet(path, steps_per_epoch=4)
    table = pq.read_table(path)
    assert tuple(table.column_names) == COLUMNS
    rows = table.to_pylist()
    assert [row["step"] for row in rows] == [step for step in range(1, 11) for _ in LINKS]
    assert [row["epoch"] for row in rows[::2]] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    assert [(row["teacher"], row["student"]) for row in rows[:4]] == [*LINKS, *LINKS]
    seventh = rows[13]
    assert seventh["expert"] is False
    assert rows[11]["expert"] is True
    assert [seventh[column] for column in COLUMNS[4:9]] == pytest.approx(
        [7.02, 7.04, 7.06, 7.1, 7.08], rel=1e-6
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("step", "network"), [(1, "T1"), (BLOCK_STEPS, "S1"), (300, "T2")])
def test_divergence_names_the_first_bad_step_and_its_network(
    bad: float, step: int, network: str
) -> None:
    timeline = Timeline(NETWORKS, LINKS)

    def record_two_blocks() -> None:
        for number in range(1, 2 * BLOCK_STEPS + 1):
            made_up = made_up_step(number)
            if number == step:
                made_up.losses[network] = torch.tensor(bad)
            if number > step:
                made_up.losses["S1"] = torch.tensor(math.nan)
            timeline.record(made_up, images=8)

    with pytest.raises(DivergedError, match=f"step {step}: the loss of {network} is") as caught:
        record_two_blocks()
    assert (caught.value.step, caught.value.network) == (step, network)
    # at the latest when its block was full
    assert len(timeline) == -(-step // BLOCK_STEPS) * BLOCK_STEPS


def test_divergence_shows_before_rows_can_be_saved() -> None:
    timeline = recorded(3)
    made_up = made_up_step(4)
    made_up.losses["S1"] = torch.tensor(math.nan)
    timeline.record(made_up, images=8)
    with pytest.raises(DivergedError, match="step 4"):
        timeline.rows()


def test_a_timeline_without_links_keeps_losses() -> None:
    timeline = Timeline(("S1",), ())
    for number in range(1, 4):
        values = {"S1": torch.tensor(float(number))}
        timeline.record(CohortStep(values, values, {}), images=8)
    assert timeline.losses("S1")[0].tolist() == [1, 2, 3]
    assert list(timeline.windows(total_steps=3, after=0)) == []


def test_divergence_names_the_network_whose_own_loss_it_is() -> None:
    """A student's infinite logits make its teacher's loss infinite too, one column earlier."""
    timeline = recorded(3)
    made_up = made_up_step(4)
    for network in ("T1", "S1"):
        made_up.losses[network] = torch.tensor(math.nan)
    made_up.cross_entropies["S1"] = torch.tensor(math.inf)
    timeline.record(made_up, images=8)
    with pytest.raises(DivergedError, match="step 4: the loss of S1"):
        timeline.flush()


def test_the_last_window_of_a_trial_that_ended_early_is_whole() -> None:
    timeline = recorded(5)
    size = 2
    total = size * 2000
    before = [w.step for w in timeline.windows(total, after=0) if w.quantity == "gap"]
    ended = [w.step for w in timeline.windows(total, after=4, ended=True) if w.quantity == "gap"]
    assert set(before) == {2, 4}
    assert set(ended) == {5}


def test_a_switch_would_have_waited_where_the_gap_is_large_and_the_teacher_nearer() -> None:
    link = ("T1", "S1")
    timeline = Timeline(("T1", "S1"), (link,), switched=False)
    columns = column_names(timeline.networks, timeline.links)
    rows = torch.zeros(4, len(columns))
    for field, values in {
        "gap": [0.6, 0.4, 0.6, 0.5],
        "threshold": [0.5] * 4,
        "teacher_distance": [0.2, 0.2, 0.9, 0.2],
        "student_distance": [0.8] * 4,
    }.items():
        rows[:, columns.index(f"{field}/T1-S1")] = torch.tensor(values)
    timeline.load_state_dict({"columns": columns, "rows": rows})
    assert timeline.would_be_expert(link).tolist() == [True, False, False, False]
    told = [w.value for w in timeline.windows(4, 0) if w.quantity == "would_be_expert"]
    assert told == [1.0, 0.0, 0.0, 0.0]
