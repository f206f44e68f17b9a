"""The picture that a trial leaves shows its windows, its modes and its accuracies."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from switokd.methods.base import CohortStep
from switokd.session import results
from switokd.session.timeline_picture import MODE_SCALE, draw, timeline_picture
from switokd.switching import SwitchState
from switokd.tracking.outbox import Point
from switokd.training.build import build_trainer
from switokd.training.timeline import Timeline
from tests.session.test_session import trial

LINKS = [("T1", "S1"), ("T2", "S1")]
STEPS = 12
# T1 waits in the first three steps, T2 in every second
EXPERT = {LINKS[0]: [1.0] * 3 + [0.0] * 9, LINKS[1]: [0.0, 1.0] * 6}
HISTORY = [
    Point(f"val_top1/{network}", 10.0 * epoch + rank, epoch, 0)
    for epoch in (1, 2, 3)
    for rank, network in enumerate(("T1", "T2", "S1"))
] + [Point("val_loss/S1", 3.0, 1, 0)]


def filled(switched: bool = True) -> Timeline:
    timeline = Timeline(("T1", "T2", "S1"), LINKS, switched=switched)
    for step in range(STEPS):
        states = {}
        for rank, link in enumerate(LINKS):
            # gap above the threshold, and the teacher nearer, where it waits
            waits = EXPERT[link][step]
            numbers = {
                "gap": 0.5 + step / 10 + rank,
                "threshold": 2.9 - 2.5 * waits,
                "epsilon": 0.5,
                "teacher_distance": 0.1,
                "student_distance": 1.0,
                "expert": waits * switched,
            }
            states[link] = SwitchState(**{k: torch.tensor(v) for k, v in numbers.items()})
        losses = {name: torch.tensor(1.0) for name in timeline.networks}
        timeline.record(CohortStep(losses, losses, states, frozenset()), 8)
    timeline.flush()
    return timeline


@pytest.mark.parametrize("switched", [True, False])
def test_it_shows_each_link_and_the_accuracies(switched: bool) -> None:
    figure = Figure()
    draw(figure, filled(switched), HISTORY, steps_per_epoch=4)
    *of_links, accuracies = figure.axes
    assert len(of_links) == 2
    for rank, (link, place) in enumerate(zip(LINKS, of_links, strict=True)):
        gap, threshold = place.get_lines()
        assert list(gap.get_xdata()) == list(range(1, STEPS + 1))
        assert list(gap.get_ydata()) == pytest.approx([0.5 + s / 10 + rank for s in range(STEPS)])
        assert list(threshold.get_ydata()) == pytest.approx([2.9 - 2.5 * e for e in EXPERT[link]])
        (modes,) = place.collections
        # as would have been, of a method without a switch
        assert np.asarray(modes.get_array()).ravel().tolist() == EXPERT[link]
        (told,) = (t.get_text() for t in place.get_legend().texts if "expert" in t.get_text())
        assert ("had it a switch" in told) is not switched
        assert "-".join(link) in place.get_ylabel()
    curves = {line.get_label(): line for line in accuracies.get_lines()}
    assert list(curves) == ["S1", "T1", "T2"]
    assert list(curves["S1"].get_xdata()) == [4, 8, 12]
    assert list(curves["S1"].get_ydata()) == [12, 22, 32]
    assert curves["T1"].get_linestyle() != curves["T2"].get_linestyle()


def test_it_is_a_png_in_which_the_modes_can_be_seen() -> None:
    content = timeline_picture(filled(), HISTORY, "a title", 4)
    assert content is not None
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    shade = [int(MODE_SCALE[1][at : at + 2], 16) for at in (1, 3, 5)]
    share = (picture == shade).all(axis=2).mean(axis=1).max()
    assert 0.3 < share < 0.6, "half of the steps of one link"


def test_a_picture_that_fails_costs_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = trial()
    trainer = build_trainer(spec, torch.device("cpu"))
    (found,) = results.write_picture(spec, trainer, HISTORY, tmp_path)
    assert found == (tmp_path / "timeline.png", None)
    found[0].unlink()

    def fails(*_: object) -> None:
        raise ValueError("no such font")

    monkeypatch.setattr(results, "timeline_picture", fails)
    assert results.write_picture(spec, trainer, HISTORY, tmp_path) == []
    assert not found[0].exists()
    assert "its timeline cannot be drawn: no such font" in caplog.text
