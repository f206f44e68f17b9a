"""One trial's life: begin or resume, checkpoint, hand points over, end; with Ray and without.

What a trial leaves lies in one folder, `runs/<experiment>/trials/<trial id>/`: its checkpoints,
and at the end `timeline.parquet`, `spec.yaml` and `weights/`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from switokd import names
from switokd.files.lock import FileLock
from switokd.provenance import library_versions
from switokd.session import results
from switokd.session.extension import carried_on
from switokd.session.failures import RankLostError, failure_reason
from switokd.session.folders import checkpoint_folder, trial_folder
from switokd.session.local_ranks import LocalRanks
from switokd.session.machine_use import MachineUse
from switokd.session.memory import PeakMemory
from switokd.session.population import take_over
from switokd.session.rank_group import Launcher, RankGroup
from switokd.session.starting_state import first_state, resumable_state
from switokd.session.state import latest_state
from switokd.session.teacher_weights import read_teachers
from switokd.spec.trial import TrialSpec
from switokd.tracking import points as metrics
from switokd.tracking import tracker as tracking
from switokd.tracking.outbox import Outbox
from switokd.tracking.tracker import TrialTracker
from switokd.training.build import build_trainer, choose_device
from switokd.training.exclusive import GPU
from switokd.training.timeline import DivergedError
from switokd.training.trainer import EpochReport, Trainer

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


@contextlib.contextmanager
def open_session(
    trial: TrialSpec,
    *,
    runs: Path = Path("runs"),
    tracker: TrialTracker | None = None,
    threads: int | None = None,
    continues: Sequence[str] = (),
    alone: bool = True,
    launcher: Launcher | None = None,
) -> Iterator[TrialSession]:
    """A trial in progress; its run ends as the block does, KILLED where the trial has not finished.

    `threads`: of torch, on the CPU, where no checkpoint says with how many the trial began.
    `continues`: shorter forms of the trial (`extension.shorter_trials`), by their ids. `alone`:
    whether no other trial trains in this process, so that what it takes is the trial's.
    `launcher`: of the other processes that train the trial too, where there are any; by default
    they are on this machine. Raises HeldError where another process trains the same trial,
    DataError where the data is not there, RankFailedError and RankLostError where another rank
    could not go on.
    """
    group = RankGroup(trial, launcher or LocalRanks())
    lock = trial_folder(runs, trial.experiment, trial.trial_id) / "lock"
    with FileLock(lock, f"trial {trial.trial_id}"):
        session: TrialSession | None = None
        error: BaseException | None = None
        try:
            session = TrialSession(trial, runs, tracker, threads, continues, alone, group)
            yield session
            error = session.leave()
        except BaseException as raised:
            error = raised
            error = group.explained(raised)
            if error is raised:
                raise
            raise error from raised
        finally:
            files: list[tuple[Path, str | None]] = []
            try:
                if session is not None:
                    if isinstance(error, DivergedError):
                        files = session.keep_divergence()
                    session.trainer.data.close()
            finally:
                group.close(error)
            if tracker is not None and not tracker.closed:
                stopped = session is not None and session.stop_requested
                # one that lost a rank goes on
                lost = isinstance(error, RankLostError)
                interrupted = stopped or lost or not isinstance(error, Exception)
                _end_run(tracker, error, interrupted, files)


def _end_run(
    tracker: TrialTracker,
    error: BaseException | None,
    interrupted: bool,
    files: Sequence[tuple[Path, str | None]],
) -> None:
    """Mark the run of a trial that did not finish."""
    if interrupted and not isinstance(error, DivergedError):
        tracker.end("KILLED")
    elif error is not None:
        tracker.end("FAILED", failure_reason(error), files)


class TrialSession:
    """A trial in progress, made by `open_session`.

    `trainer` is where it stands, `state` what is known of it beside that; `stop_requested` ends it
    within a step.
    """

    def __init__(
        self,
        trial: TrialSpec,
        runs: Path,
        tracker: TrialTracker | None,
        threads: int | None,
        continues: Sequence[str],
        alone: bool,
        group: RankGroup,
    ) -> None:
        self.trial, self.tracker = trial, tracker
        self.folder = trial_folder(runs, trial.experiment, trial.trial_id)
        self.checkpoints = checkpoint_folder(trial, runs)
        self.stop_requested = False
        self._runs = runs
        # where nothing is tracked the points only wait: a later session may send them
        self._outbox = tracker.outbox if tracker else Outbox(lambda batch: None, 1, "no store")
        self._files: list[tuple[Path, str | None]] = []
        self._saved_at = time.monotonic()
        resumed = resumable_state(trial, self.checkpoints)
        threads = threads or max(1, (os.cpu_count() or 1) // trial.resources.ranks)
        begun = resumed or first_state(trial, runs, threads, continues)
        torch.set_num_threads(begun.threads)
        device = choose_device(trial.resources)
        if tracker is not None:
            tracker.begin(str(device), begun.threads, begun.continued_from, resumed is None)
        in_force = TrialSpec.model_validate_json(begun.in_force) if begun.changes else trial
        self._memory = PeakMemory(device, begun.peak_memory) if alone else None
        self._machine = MachineUse(device) if alone else None
        fetch = tracker.fetch_weights if tracker else None
        with GPU.resting():
            teachers = read_teachers(in_force, self.folder.parent, fetch)
        ranks = group.start(device)
        ranks.share((begun.threads, teachers))
        self.trainer: Trainer = build_trainer(in_force, device, teachers, ranks)
        # the trainer has what it takes up; a second copy would only fill the memory
        self.state = replace(begun, trainer={}, outbox=())
        try:
            self._outbox.add(begun.outbox)
            taken = begun.trainer
            if not resumed and begun.continued_from:
                taken = carried_on(self.trainer, taken, taken["epoch"])
            # one that diverged before its first checkpoint begins anew, and knows what it sent
            if ranks.share(taken):
                self.trainer.load_state_dict(taken)
            if resumed:
                self._outbox.release()
            elif begun.continued_from:
                self.checkpoint_or_warn()
        except BaseException:
            self.trainer.data.close()
            raise

    @property
    def done(self) -> bool:
        """Whether the trial has trained its last epoch, be it that it was told to end with it."""
        at_an_end = self.trainer.epoch > 0 and self.trainer.step_in_epoch == 0
        return self.trainer.done or (self.state.stopped is not None and at_an_end)

    def stop_early(self, why: str) -> None:
        """Let this epoch be the trial's last, or the one before where that has just ended."""
        self.state = replace(self.state, stopped=why)

    def take_over(self, donor: str, changed: TrialSpec, values: dict[str, float]) -> None:
        """Go on from the networks of trial `donor` under the settings of `changed`.

        `values` are the settings that a search changes, by their keys; they are tracked from here
        on. For the end of an epoch.
        """
        state = latest_state(checkpoint_folder(self.trial, self._runs, donor))
        if state is None:
            log.warning("trial %s has no checkpoint yet: nothing is taken over from it", donor)
            return
        self.trainer = take_over(self.trainer, state.trainer, changed)
        epoch = self.trainer.epoch
        change = {"epoch": epoch, "donor": donor, "values": values}
        self.state = replace(
            self.state, in_force=changed.model_dump_json(), changes=(*self.state.changes, change)
        )
        tracked = {names.metric(names.CHANGED_SETTING, key): v for key, v in values.items()}
        self._outbox.add(metrics.points(tracked, epoch))
        self.checkpoint_or_warn()

    @property
    def changed_values(self) -> dict[str, float] | None:
        """The settings in force, where they are no longer those that the trial began with."""
        return self.state.changes[-1]["values"] if self.state.changes else None

    def epochs(self) -> Iterator[EpochReport]:
        """The remaining epochs, each when it is trained; ends early where a stop is requested."""
        while not self.done and not self.stop_requested:
            report = self.advance()
            if report is not None:
                yield report
        if not self.done:
            self.checkpoint_or_warn()

    def advance(self, seconds: float | None = None) -> EpochReport | None:
        """Train to the end of the epoch, or for about `seconds`; the epoch's report at its end.

        Raises DivergedError where a loss was not finite.
        """
        stop_at = None if seconds is None else time.monotonic() + seconds

        def go_on() -> bool:
            self._checkpoint_if_due()
            out_of_time = stop_at is not None and time.monotonic() >= stop_at
            return not (self.stop_requested or out_of_time)

        report = self.trainer.run_epoch(go_on)
        if report is not None:
            values = metrics.epoch_values(report)
            if self._machine is not None:
                values |= self._machine.metrics()
            points = metrics.points(values, report.epoch)
            self.state = replace(
                self.state,
                last_top1={name: scores.top1 for name, scores in report.scores.items()},
                history=(*self.state.history, *points),
            )
            if report.epoch > self.state.tracked_epoch:
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
        if not self.state.summary:
            summary = results.summarise(self.trial, self.trainer, self.state.last_top1)
            if self._memory is not None:
                summary |= self._memory.metrics()
            self._outbox.add(metrics.points(summary, self.trainer.epoch))
            self.state = replace(self.state, summary=summary)
            self.checkpoint()
        summary = self.state.summary
        for network in self.trainer.networks.values():
            # what they are to whoever takes them along
            self.trainer.ranks.release(network)
        if not self._files:
            self._files = results.write_files(self.trial, self.trainer, summary, self.folder)
            if self.tracker is not None:
                history = self.state.history
                self._files += results.write_picture(self.trial, self.trainer, history, self.folder)
        run_id = None
        if self.tracker is not None:
            with GPU.resting():
                run_id = self.tracker.finish(self._files, patience_seconds, self._outcome())
        self.checkpoints.prune(1)
        return TrialResult(self.trial.trial_id, self.folder, summary, self.trainer.networks, run_id)

    @property
    def why_stopped(self) -> str | None:
        """Which epoch was the last and why, where it was not the recipe's."""
        if self.trainer.epoch >= self.trainer.epochs:
            return None
        why = self.state.stopped or f"none better in {self.trainer.patience}"
        return f"epoch {self.trainer.epoch}: {why}"

    def _outcome(self) -> dict[str, str]:
        tags = {} if self.why_stopped is None else {names.STOPPED: self.why_stopped}
        if self.trial.snapshots:
            tags[names.SNAPSHOTS] = json.dumps(self.trial.snapshots)
        if self.state.changes:
            tags[names.CHANGES] = tracking.as_tag(self.state.changes)
        return tags

    def checkpoint(self) -> None:
        """Save everything durably; from then on its points may be sent."""
        step = self.trainer.step
        windows = self.trainer.timeline.windows(
            self.trainer.total_steps, self.state.tracked_step, ended=self.done
        )
        self._outbox.add(metrics.window_points(windows))
        self.state = replace(
            self.state,
            tracked_step=max(step, self.state.tracked_step),
            peak_memory=self._memory.mib() if self._memory else self.state.peak_memory,
            versions=library_versions(),
        )
        whole = replace(
            self.state, trainer=self.trainer.state_dict(), outbox=tuple(self._outbox.waiting())
        )
        self.checkpoints.save(step, whole.to_dict())
        self._saved_at = time.monotonic()
        self._outbox.release()

    def keep_divergence(self) -> list[tuple[Path, str | None]]:
        """Let all points up to the diverging step be sent; the files that tell of it.

        The networks stay those of the last checkpoint, from which the trial is tried again: with
        it lies what has been made of the steps after it, so that nothing is sent twice.
        """
        timeline = self.trainer.timeline
        windows = timeline.windows(self.trainer.total_steps, self.state.tracked_step, ended=True)
        try:
            self._outbox.add(metrics.window_points(windows))
            whole = replace(
                latest_state(self.checkpoints) or replace(self.state, history=()),
                tracked_step=max(len(timeline), self.state.tracked_step),
                tracked_epoch=max(self.trainer.epoch, self.state.tracked_epoch),
                outbox=tuple(self._outbox.waiting()),
            )
            at = whole.trainer["timeline"]["rows"].shape[0] if whole.trainer else 0
            self.checkpoints.save(at, whole.to_dict())
            self._outbox.release()
            return results.write_timeline(self.trainer, self.folder)
        except OSError as error:
            log.warning("the last points of trial %s are lost: %s", self.trial.trial_id, error)
            return []

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

    def leave(self) -> DivergedError | None:
        """Keep what has not been saved yet; a divergence that only shows now is returned."""
        if not self.state.summary:
            try:
                self.checkpoint_or_warn()
            except DivergedError as found_late:
                return found_late
        return None
