"""What a trial carries from process to process: one frozen record, written with each checkpoint.

A new fact is one field here, with the value that older checkpoints stand for. What no default can
say, because the form has changed, `migrate` does.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, fields
from typing import Any

from switokd.names import metric
from switokd.session.checkpoint import CheckpointFolder
from switokd.tracking.outbox import Point

VERSION = 2
SWITCH_OF_VERSION_1 = (
    *("gap", "threshold", "epsilon"),
    *("student_distance", "teacher_distance", "expert"),
)


@dataclass(frozen=True)
class TrialState:
    """A trial between two steps.

    trainer: what `Trainer.state_dict` gave. threads: of torch, on the CPU. in_force: the settings
    under which it is trained now, a TrialSpec in JSON; other than the trial's own where `changes`
    of a population-based search (epoch, donor, values) have come. tracked_step: up to which step
    windows of the timeline have been made, tracked_epoch: up to which the metrics of epochs, where
    it diverged after this checkpoint. last_top1: in percent, by network. summary: the metrics
    at the end, once there. history: every point of the epochs so far; outbox: those of all points
    that no store has confirmed. continued_from: the shorter trial that it went on from. stopped:
    who ended it early. versions: of Python and the libraries.
    """

    trainer: dict[str, Any]
    threads: int
    in_force: str
    versions: dict[str, str]
    tracked_step: int = 0
    tracked_epoch: int = 0
    last_top1: dict[str, float] = field(default_factory=dict)
    summary: dict[str, float] = field(default_factory=dict)
    history: tuple[Point, ...] = ()
    outbox: tuple[Point, ...] = ()
    changes: tuple[dict[str, Any], ...] = ()
    peak_memory: float | None = None
    continued_from: str | None = None
    stopped: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain values alone, as a safe reader of checkpoints takes them."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        for name in ("history", "outbox"):
            plain[name] = [tuple(point) for point in plain[name]]
        return plain | {"changes": list(self.changes), "version": VERSION}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> TrialState:
        """Take up what `to_dict` of this version or of an earlier one wrote. Raises ValueError."""
        plain = migrate(stored)
        known = {entry.name for entry in fields(cls)}
        plain = {name: value for name, value in plain.items() if name in known}
        for name in ("history", "outbox"):
            plain[name] = tuple(Point(*values) for values in plain.get(name, ()))
        return cls(**plain | {"changes": tuple(plain.get("changes", ()))})


def latest_state(checkpoints: CheckpointFolder) -> TrialState | None:
    """The newest state that reads whole, or None."""
    stored = checkpoints.latest()
    return None if stored is None else TrialState.from_dict(stored)


def migrate(stored: dict[str, Any]) -> dict[str, Any]:
    """What an earlier version wrote, in today's form; raises ValueError for a later version's."""
    version = stored.get("version", 1)
    if version > VERSION:
        raise ValueError(
            f"the checkpoint was written by a later version of switokd (its form {version}, "
            f"known up to {VERSION}): update switokd"
        )
    if version == 1:
        stored = stored | {"trainer": _with_named_columns(stored["trainer"])}
    return stored


def _with_named_columns(trainer: dict[str, Any]) -> dict[str, Any]:
    """Version 1 kept the timeline's rows alone, their columns in the order of its day."""
    names = list(trainer["networks"])
    teachers = [name for name in names if name.startswith("T")]
    students = [name for name in names if name.startswith("S")]
    links = itertools.product(teachers, students)
    columns = [metric(field, *link) for link in links for field in SWITCH_OF_VERSION_1]
    columns += [metric(loss, name) for name in names for loss in ("loss", "ce")]
    columns.append("images")
    rows = trainer["timeline"]
    if rows.shape[1] != len(columns):
        raise ValueError(
            f"the checkpoint's timeline has {rows.shape[1]} columns, its cohort {len(columns)}"
        )
    return trainer | {"timeline": {"columns": columns, "rows": rows}, "attached": {}}
