"""One trial's life: begin or resume, checkpoint, hand points over, end; with Ray and without.

What a trial leaves lies in one folder, `runs/<experiment>/trials/<trial id>/`: its checkpoints,
and at the end `timeline.parquet`, `spec.yaml` and `weights/`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from switokd import names
from switokd.files.lock import FileLock
from switokd.provenance import library_versions
from switokd.session import results
from switokd.session.checkpoint import CheckpointFolder
from switokd.session.continuation import as_written_now, carried_on, why_not
from switokd.session.memory import PeakMemory
from switokd.session.population import take_over
from switokd.spec.trial import TrialSpec
from switokd.tracking import points as metrics
from switokd.tracking import tracker as tracking
from switokd.tracking.outbox import Outbox, Point
from switokd.tracking.tracker import TrialTracker
from switokd.training.build import build_trainer, choose_device
from switokd.training.timeline import DivergedError
from switokd.training.trainer import EpochReport, Trainer
from switokd.validation import DataError, SpecError

log = logging.getLogger(__name__)

# how long the end of a trial waits for a silent tracking store
FINISH_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class TrialResult:
    """A finished trial: its summary metrics by name, its networks, and where it left its files."""

    trial_id: str
    folder: Path
    metrics: dict[str, float]
    networks: dict[str, nn.Module]
    run_id: str | None = None


def trial_folder(runs: Path, experiment: str, trial_id: str) -> Path:
    """Where a trial's files lie, whichever process made them."""
    return runs.absolute() / experiment / "trials" / trial_id


def checkpoint_folder(
    trial: TrialSpec, runs: Path, trial_id: str | None = None
) -> CheckpointFolder:
    """The checkpoints of a trial, or of the one with `trial_id` beside it."""
    trial_id = trial_id or trial.trial_id
    if trial.resources.storage is not None:
        return CheckpointFolder(trial.resources.storage, trial.experiment, trial_id)
    return CheckpointFolder(trial_folder(runs, trial.experiment, trial_id), "checkpoints")


class TrialSession:
    """A trial in progress; a context manager that ends the trial's run as the block ended.

    Raises HeldError where another process trains the same trial, DataError where the data is not
    there, DivergedError (from `advance` and `epochs`) where a loss was not finite.
    """

    def __init__(
        self,
        trial: TrialSpec,
        *,
        runs: Path = Path("runs"),
        tracker: TrialTracker | None = None,
        threads: int | None = None,
        continues: Sequence[str] = (),
    ) -> None:
        """`continues`: shorter forms of the trial (`continuation.shorter_trials`), by their ids."""
        self.trial = trial
        self._runs = runs
        self.folder = trial_folder(runs, trial.experiment, trial.trial_id)
        self.tracker = tracker
        self.stop_requested = False
        # where nothing is tracked the points only wait: a later session may send them
        self._outbox = tracker.outbox if tracker else Outbox(lambda batch: None, 1, "no store")
        self.checkpoints = checkpoint_folder(trial, runs)
        self._tracked_step = 0
        self._last_top1: dict[str, float] = {}
        self._summary: dict[str, float] = {}
        self._history: list[Point] = []
        self._stopped: str | None = None
        self._changes: list[dict[str, Any]] = []
        self._continued_from: str | None = None
        self._files: list[tuple[Path, str | None]] = []
        self._saved_at = time.monotonic()
        self._held = contextlib.ExitStack()
        self._held.enter_context(FileLock(self.folder / "lock", f"trial {trial.trial_id}"))
        try:
            state = as_written_now(self.checkpoints.latest())
            self._continued_from = state["continued_from"] if state else None
            shorter = None if state else self._shorter(continues)
            before = state or shorter or {}
            # threads change the order of sums: a resumed trial keeps those it began with
            self.threads: int = before.get("threads") or threads or os.cpu_count() or 1
            torch.set_num_threads(self.threads)
            device = choose_device(trial.resources.gpus)
            if tracker is not None:
                tracker.begin(str(device), self.threads, self._continued_from)
            self._in_force = trial
            if state and state["changes"]:
                self._in_force = TrialSpec.model_validate_json(state["in_force"])
            self._memory = PeakMemory(device)
            self.trainer: Trainer = build_trainer(self._in_force, device)
            self._held.callback(lambda: self.trainer.data.close())
            if state:
                self._resume(state)
            elif shorter:
                self._carry_on(shorter)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    @property
    def done(self) -> bool:
        """Whether the trial has trained its last epoch, be it that it was told to end with it."""
        at_an_end = self.trainer.epoch > 0 and self.trainer.step_in_epoch == 0
        return self.trainer.done or (self._stopped is not None and at_an_end)

    def stop_early(self, why: str) -> None:
        """Let this epoch be the trial's last, or the one before where that has just ended."""
        self._stopped = why

    def take_over(self, donor: str, changed: TrialSpec, values: dict[str, float]) -> None:
        """Go on from the networks of trial `donor` under the settings of `changed`.

        `values` are the settings that a search changes, by their keys; they are tracked from here
        on. For the end of an epoch.
        """
        state = checkpoint_folder(self.trial, self._runs, donor).latest()
        if state is None:
            log.warning("trial %s has no checkpoint yet: nothing is taken over from it", donor)
            return
        self.trainer = take_over(self.trainer, state["trainer"], changed)
        self._in_force = changed
        epoch = self.trainer.epoch
        self._changes.append({"epoch": epoch, "donor": donor, "values": values})
        tracked = {names.metric(names.CHANGED_SETTING, key): value for key, value in values.items()}
        self._outbox.add(metrics.points(tracked, epoch))
        self.checkpoint_or_warn()

    @property
    def changed_values(self) -> dict[str, float] | None:
        """The settings in force, where they are no longer those that the trial began with."""
        return self._changes[-1]["values"] if self._changes else None

    def epochs(self) -> Iterator[EpochReport]:
        """The remaining epochs, each when it is trained; ends early where a stop is requested."""
        while not self.done and not self.stop_requested:
            report = self.advance()
            if report is not None:
                yield report
        if not self.done:
            self.checkpoint_or_warn()

    def advance(self, seconds: float | None = None) -> EpochReport | None:
        """Train to the end of the epoch, or for about `seconds`; the epoch's report at its end."""
        stop_at = None if seconds is None else time.monotonic() + seconds

        def go_on() -> bool:
            self._checkpoint_if_due()
            out_of_time = stop_at is not None and time.monotonic() >= stop_at
            return not (self.stop_requested or out_of_time)

        report = self.trainer.run_epoch(go_on)
        if report is not None:
            self._last_top1 = {name: scores.top1 for name, scores in report.scores.items()}
            points = metrics.points(metrics.epoch_values(report), report.epoch)
            self._history += points
            self._outbox.add(points)
            if not self.done:
                self._checkpoint_if_due()
        return report

    def finish(self, patience_seconds: float = FINISH_PATIENCE_SECONDS) -> TrialResult:
        """Score, save and track what a finished trial leaves.

        Raises TrackingError where the store stays silent for `patience_seconds`, OSError where the
        disk refuses. It can then be called again, also by a later process: nothing doubles.
        """
        assert self.done, "a trial is finished after its last epoch"
        if not self._summary:
            summary = results.summarise(self.trial, self.trainer, self._last_top1)
            summary |= self._memory.metrics()
            self._outbox.add(metrics.points(summary, self.trainer.epoch))
            self._summary = summary
            self.checkpoint()
        if not self._files:
            self._files = results.write_files(self.trial, self.trainer, self._summary, self.folder)
        run_id = None
        if self.tracker is not None:
            run_id = self.tracker.finish(self._files, patience_seconds, self._outcome())
        self.checkpoints.prune(1)
        return TrialResult(
            self.trial.trial_id, self.folder, self._summary, self.trainer.networks, run_id
        )

    @property
    def why_stopped(self) -> str | None:
        """Which epoch was the last and why, where it was not the recipe's."""
        if self.trainer.epoch >= self.trainer.epochs:
            return None
        why = self._stopped or f"none better in {self.trainer.patience}"
        return f"epoch {self.trainer.epoch}: {why}"

    def _outcome(self) -> dict[str, str]:
        tags = {} if self.why_stopped is None else {names.STOPPED: self.why_stopped}
        return tags | ({names.CHANGES: tracking.as_tag(self._changes)} if self._changes else {})

    def checkpoint(self) -> None:
        """Save everything durably; from then on its points may be sent."""
        step = self.trainer.step
        windows = self.trainer.timeline.windows(
            self.trainer.total_steps, self._tracked_step, ended=self.done
        )
        self._outbox.add(metrics.window_points(windows))
        self._tracked_step = step
        self.checkpoints.save(
            step,
            {
                "trainer": self.trainer.state_dict(),
                "threads": self.threads,
                "tracked_step": step,
                "last_top1": self._last_top1,
                "summary": self._summary,
                "history": [tuple(point) for point in self._history],
                "peak_memory": self._memory.mib(),
                "continued_from": self._continued_from,
                "stopped": self._stopped,
                "changes": self._changes,
                "in_force": self._in_force.model_dump_json(),
                "outbox": [tuple(point) for point in self._outbox.waiting()],
                "versions": library_versions(),
            },
        )
        self._saved_at = time.monotonic()
        self._outbox.release()

    def _checkpoint_if_due(self) -> None:
        if time.monotonic() - self._saved_at < self.trial.resources.checkpoint_seconds:
            return
        self.checkpoint_or_warn()

    def checkpoint_or_warn(self) -> None:
        """Save everything; on a full disk go on with the checkpoint before, and say so."""
        try:
            self.checkpoint()
        except OSError as error:
            # the one before is whole still; the next one may find room again
            log.warning(
                "no checkpoint at step %d: %s; an older one is kept", self.trainer.step, error
            )
            self._saved_at = time.monotonic()

    def _resume(self, state: dict[str, Any]) -> None:
        self.trainer.load_state_dict(state["trainer"])
        self._tracked_step = state["tracked_step"]
        self._last_top1 = state["last_top1"]
        self._summary = state["summary"]
        self._history = [Point(*values) for values in state["history"]]
        self._memory.earlier_mib = state["peak_memory"]
        self._stopped = state["stopped"]
        self._changes = state["changes"]
        self._outbox.add(Point(*values) for values in state["outbox"])
        self._outbox.release()

    def _shorter(self, continues: Sequence[str]) -> dict[str, Any] | None:
        """The state of the first shorter trial that this one can go on from."""
        for trial_id in continues:
            state = as_written_now(checkpoint_folder(self.trial, self._runs, trial_id).latest())
            reason = why_not(state, self.trial)
            if reason is None:
                self._continued_from = trial_id
                return state
            log.warning("from the first step, and not from trial %s: %s", trial_id, reason)
        return None

    def _carry_on(self, shorter: dict[str, Any]) -> None:
        """Begin where a shorter trial ended, with all that it has recorded."""
        state = shorter["trainer"]
        self.trainer.load_state_dict(carried_on(self.trainer, state, state["epoch"]))
        self._last_top1 = shorter["last_top1"]
        self._history = [Point(*values) for values in shorter["history"]]
        self._outbox.add(self._history)
        # its windows are of another length: they are made anew from the whole timeline
        self.checkpoint_or_warn()

    def __enter__(self) -> TrialSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._held:
            try:
                if error is None and not self._summary:
                    self.checkpoint_or_warn()
            except DivergedError as found_late:
                error = found_late
            if self.tracker is None or self.tracker.closed:
                return
            interrupted = self.stop_requested or not isinstance(error, Exception)
            if interrupted and not isinstance(error, DivergedError):
                self.tracker.end("KILLED")
            elif error is not None:
                self.tracker.end("FAILED", failure_reason(error))


def failure_reason(error: BaseException) -> str:
    """What a user can mend or expect in its own words, anything else with its traceback."""
    if isinstance(error, SpecError | DataError | DivergedError | OSError):
        return str(error)
    return "".join(traceback.format_exception(error))
