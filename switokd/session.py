"""One trial's life: begin or resume, checkpoint, hand points over, end; with Ray and without.

What a trial leaves lies in one folder, `runs/<experiment>/trials/<trial id>/`: its checkpoints,
and at the end `timeline.parquet`, `spec.yaml` and `weights/`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from switokd import metrics, tracking
from switokd.checkpoint import CheckpointFolder, write_durably
from switokd.data import DataError
from switokd.environment import library_versions
from switokd.lock import FileLock
from switokd.outbox import Outbox, Point
from switokd.spec import TrialSpec
from switokd.timeline import DivergedError
from switokd.tracking import TrialTracker
from switokd.train import build_trainer, choose_device
from switokd.trainer import EpochReport, Trainer
from switokd.validation import SpecError

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
    ) -> None:
        self.trial = trial
        self.folder = trial_folder(runs, trial.experiment, trial.trial_id)
        self.tracker = tracker
        self.stop_requested = False
        # where nothing is tracked the points only wait: a later session may send them
        self._outbox = tracker.outbox if tracker else Outbox(lambda batch: None, 1, "no store")
        self._checkpoints = CheckpointFolder(self.folder / "checkpoints")
        self._tracked_step = 0
        self._last_top1: dict[str, float] = {}
        self._summary: dict[str, float] = {}
        self._files: list[tuple[Path, str | None]] = []
        self._saved_at = time.monotonic()
        self._held = contextlib.ExitStack()
        self._held.enter_context(FileLock(self.folder / "lock", f"trial {trial.trial_id}"))
        try:
            state = self._checkpoints.latest()
            # threads change the order of sums: a resumed trial keeps those it began with
            self.threads: int = state["threads"] if state else threads or os.cpu_count() or 1
            torch.set_num_threads(self.threads)
            device = choose_device(trial.resources.gpus)
            if tracker is not None:
                tracker.begin(str(device), self.threads)
            self.trainer: Trainer = build_trainer(trial, device)
            self._held.callback(self.trainer.data.close)
            if state:
                self._resume(state)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise

    def epochs(self) -> Iterator[EpochReport]:
        """The remaining epochs, each when it is trained; ends early where a stop is requested."""
        while not self.trainer.done and not self.stop_requested:
            report = self.advance()
            if report is not None:
                yield report
        if not self.trainer.done:
            self._checkpoint_or_warn()

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
            self._outbox.add(metrics.points(metrics.epoch_values(report), report.epoch))
            if not self.trainer.done:
                self._checkpoint_if_due()
        return report

    def finish(self, patience_seconds: float = FINISH_PATIENCE_SECONDS) -> TrialResult:
        """Score, save and track what a finished trial leaves.

        Raises TrackingError where the store stays silent for `patience_seconds`, OSError where the
        disk refuses. It can then be called again, also by a later process: nothing doubles.
        """
        assert self.trainer.done, "a trial is finished after its last epoch"
        if not self._summary:
            summary = self._summarise()
            self._outbox.add(metrics.points(summary, self.trainer.epoch))
            self._summary = summary
            self.checkpoint()
        if not self._files:
            self._files = self._write_files()
        run_id = None
        if self.tracker is not None:
            run_id = self.tracker.finish(self._files, patience_seconds, self._why_stopped())
        self._checkpoints.prune(1)
        return TrialResult(
            self.trial.trial_id, self.folder, self._summary, self.trainer.networks, run_id
        )

    def _why_stopped(self) -> str | None:
        if self.trainer.epoch >= self.trainer.epochs:
            return None
        return f"epoch {self.trainer.epoch}: none better in {self.trainer.patience}"

    def checkpoint(self) -> None:
        """Save everything durably; from then on its points may be sent."""
        step = self.trainer.step
        windows = self.trainer.timeline.windows(
            self.trainer.total_steps, self._tracked_step, ended=self.trainer.done
        )
        self._outbox.add(metrics.window_points(windows))
        self._tracked_step = step
        self._checkpoints.save(
            step,
            {
                "trainer": self.trainer.state_dict(),
                "threads": self.threads,
                "tracked_step": step,
                "last_top1": self._last_top1,
                "summary": self._summary,
                "outbox": [tuple(point) for point in self._outbox.waiting()],
                "versions": library_versions(),
            },
        )
        self._saved_at = time.monotonic()
        self._outbox.release()

    def _checkpoint_if_due(self) -> None:
        if time.monotonic() - self._saved_at < self.trial.resources.checkpoint_seconds:
            return
        self._checkpoint_or_warn()

    def _checkpoint_or_warn(self) -> None:
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
        self._outbox.add(Point(*values) for values in state["outbox"])
        self._outbox.release()

    def _summarise(self) -> dict[str, float]:
        trainer, metric = self.trainer, metrics.metric
        summary = {"train_seconds": trainer.train_seconds}
        for name in trainer.networks:
            summary[metric("best_val_top1", name)] = trainer.best[name].top1
            summary[metric("last_val_top1", name)] = self._last_top1[name]
        for link in trainer.timeline.links:
            summary[metric("expert_share", *link)] = trainer.timeline.expert_share(link)
        if self.trial.recipe.holdout:
            summary |= self._test_scores()
        return summary

    def _test_scores(self) -> dict[str, float]:
        """The test set, looked at once: with the last weights and those of the best epoch."""
        trainer = self.trainer
        values: dict[str, float] = {}
        last = {name: _copies(network) for name, network in trainer.networks.items()}
        best = {name: trainer.best[name].weights for name in trainer.networks}
        for quantity, weights in (("test_top1_best", best), ("test_top1", last)):
            for name, network in trainer.networks.items():
                network.load_state_dict(weights[name])
            scores, _ = trainer.evaluate("test")
            values |= {metrics.metric(quantity, name): s.top1 for name, s in scores.items()}
        return values

    def _write_files(self) -> list[tuple[Path, str | None]]:
        """The artifacts: each file and its folder in the run."""
        spec_file = self.folder / tracking.SPEC_FILE
        spec = yaml.safe_dump(self.trial.model_dump(mode="json"), sort_keys=False)
        write_durably(spec_file, spec.encode())
        files: list[tuple[Path, str | None]] = [(spec_file, None)]
        if self.trainer.timeline.links:
            timeline = self.folder / tracking.TIMELINE_FILE
            self.trainer.timeline.write_parquet(timeline, self.trainer.data.steps_per_epoch)
            files.append((timeline, None))
        weights_folder = self.folder / tracking.WEIGHTS_FOLDER
        weights_folder.mkdir(exist_ok=True)
        for name, network in self.trainer.networks.items():
            best = self.trainer.best[name]
            last_top1 = self._summary[metrics.metric("last_val_top1", name)]
            for which, epoch, top1, weights in (
                ("last", self.trainer.epoch, last_top1, _copies(network)),
                ("best", best.epoch, best.top1, best.weights),
            ):
                path = weights_folder / f"{name}-{which}.pt"
                # through memory: torch reports a full disk as an error of its own making
                content = io.BytesIO()
                torch.save(self._weights_file(name, epoch, top1, weights), content)
                path.write_bytes(content.getbuffer())
                files.append((path, tracking.WEIGHTS_FOLDER))
        return files

    def _weights_file(
        self, name: str, epoch: int, top1: float, weights: dict[str, Tensor]
    ) -> dict[str, Any]:
        """A weights file that `switokd evaluate` understands alone; its keys are the authors'."""
        return {
            "state_dict": weights,
            "best_acc": top1,
            "epoch": epoch,
            "network": name,
            "model": self.trial.networks[name].model,
            "num_classes": self.trainer.data.num_classes,
            "dataset": self.trial.dataset,
            "dataset_path": self.trial.dataset_path,
            "stand_in": self.trial.stand_in,
            "image_size": self.trial.recipe.image_size,
            "precision": self.trial.recipe.precision,
        }

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
                    self._checkpoint_or_warn()
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


def _copies(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.to("cpu", copy=True) for key, value in network.state_dict().items()}
