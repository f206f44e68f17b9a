"""What a trial carries from process to process: written and read back whole, old forms too."""

from __future__ import annotations

import io
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from switokd.session.state import VERSION, TrialState, migrate
from switokd.session.trial_session import open_session
from switokd.tracking.outbox import Outbox, Point
from tests.session.test_checkpoint import files_limited_to
from tests.session.test_session import trial

STATE = TrialState(
    trainer={"epoch": 2, "timeline": {"columns": ["images"], "rows": torch.ones(3, 1)}},
    threads=3,
    in_force="{}",
    versions={"torch": "2"},
    tracked_step=7,
    tracked_epoch=1,
    last_top1={"S1": 50.0},
    summary={"last_val_top1/S1": 50.0},
    history=(Point("val_top1/S1", 50.0, 1, 12),),
    outbox=(Point("gap/T1-S1", 0.5, 7, 13), Point("gap/T1-S1", 0.6, 8, 14)),
    changes=({"epoch": 1, "donor": "abc", "values": {"temperature": 2.0}},),
    peak_memory=100.5,
    continued_from="fed",
    stopped="asha",
)


def test_every_field_comes_back() -> None:
    unset = [f.name for f in fields(TrialState) if getattr(STATE, f.name) in ({}, (), None, 0, "")]
    assert not unset, "the example has to have a value for every field"
    buffer = io.BytesIO()
    torch.save(STATE.to_dict(), buffer)
    buffer.seek(0)
    read = TrialState.from_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(read.trainer.pop("timeline")["rows"], STATE.trainer["timeline"]["rows"])
    assert replace(STATE, trainer={"epoch": 2}) == read


def first_version(columns: int) -> dict[str, Any]:
    networks: dict[str, Any] = {"T1": {}, "S1": {}}
    rows = torch.arange(2.0 * columns).view(2, columns)
    return {
        "trainer": {"networks": networks, "timeline": rows},
        "threads": 1,
        "in_force": "{}",
        "versions": {},
    }


def test_the_first_version_had_its_columns_in_one_order() -> None:
    timeline = migrate(first_version(11))["trainer"]["timeline"]
    assert timeline["columns"] == [
        *("gap/T1-S1", "threshold/T1-S1", "epsilon/T1-S1", "student_distance/T1-S1"),
        *("teacher_distance/T1-S1", "expert/T1-S1", "loss/T1", "ce/T1", "loss/S1", "ce/S1"),
        "images",
    ]
    assert timeline["rows"].shape == (2, 11)


def test_rows_of_another_cohort_are_refused() -> None:
    with pytest.raises(ValueError, match="9 columns, its cohort 11"):
        TrialState.from_dict(first_version(9))


def test_a_later_form_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="later version of switokd"):
        TrialState.from_dict(STATE.to_dict() | {"version": VERSION + 1})


def test_what_this_version_does_not_know_is_left_out() -> None:
    assert TrialState.from_dict(STATE.to_dict() | {"colour": "red"}) == STATE


class RecordingTracker:
    """Sends a session's points into a list, as soon as they are released."""

    def __init__(self) -> None:
        self.sent: list[Point] = []
        self.outbox = Outbox(self.sent.extend, 1000, "a list")

    def begin(self, *_: Any) -> None:
        self.outbox.start()

    @property
    def closed(self) -> bool:
        return self.outbox.closed

    def end(self, *_: Any) -> None:
        self.outbox.close()

    def fetch_weights(self, *_: Any) -> None:
        raise AssertionError("nobody teaches here")

    def wait(self) -> list[Point]:
        """What has been sent once nothing that is released waits any more."""
        self.outbox.drain(time.monotonic() + 60)
        return list(self.sent)


def test_points_are_sent_only_after_their_checkpoint_is_durable(tmp_path: Path) -> None:
    tracker: Any = RecordingTracker()
    with open_session(trial(), runs=tmp_path, threads=1, tracker=tracker) as session:
        session.advance()
        with files_limited_to(1000):
            session.checkpoint_or_warn()
        assert tracker.wait() == [], "a crash now would have the epoch trained again"
        session.checkpoint()
        sent = tracker.wait()
        assert {point.name for point in sent} >= {"val_top1/S1", "gap/T1-S1"}
        stored = session.checkpoints.latest()
    assert stored is not None
    assert [Point(*values) for values in stored["outbox"]] == sent
