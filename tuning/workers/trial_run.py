"""One trial after another in a process, each by its id: what a worker does, without Ray.

Nothing that a trial does raises: a failed trial is a result. A process that dies is Tune's to start
again, and the new one resumes by the trial's id.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from switokd.files.lock import HeldError
from switokd.session.failures import RankLostError, failure_reason
from switokd.session.rank_group import Launcher
from switokd.session.trial_session import FINISH_PATIENCE_SECONDS, TrialSession, open_session
from switokd.spec.space import SearchPoint
from switokd.spec.trial import TrialSpec
from switokd.tracking.points import epoch_values
from switokd.tracking.retry import SilentStoreError
from switokd.tracking.store import TrackedExperiment
from switokd.tracking.tracker import TrialTracker
from switokd.training.exclusive import GPU
from switokd.training.trainer import EpochReport
from tuning.schedulers.judged_results import OBJECTIVE

# a step is long enough to keep Tune's bookkeeping small and short enough to stop within
STEP_SECONDS = 2.0
# a worker whose driver was killed lives on for some seconds, and holds its trial
LOCK_TIMEOUT_SECONDS = 60.0


class TrialRun:
    """Trains the trial of its configuration; assigned the next one, it goes on with that.

    config["choice"]: see `trial_config`.
    config["common"]: `store` (uri, experiment and sweep run), `runs` (the absolute folder),
    `threads` (of torch), `environment` (variables of the driver's), `metric` (what a scheduler
    judges by after each epoch, or None).
    """

    def __init__(
        self, config: dict[str, Any], *, alone: bool = True, launcher: Launcher | None = None
    ) -> None:
        """`alone`: whether no other trial trains in this process. `launcher`: of the other
        processes of a trial that has several."""
        self._alone, self._launcher = alone, launcher
        self._session: TrialSession | None = None
        self._held = ExitStack()
        of_thread = None if alone else threading.current_thread().name
        self._notices = NoticeHandler(logging.WARNING, of_thread)
        logging.getLogger("switokd").addHandler(self._notices)
        # the GPU answers this process no more
        self.broken = False
        self.assign(config)

    @property
    def trial_id(self) -> str:
        """Of the trial in training."""
        return str(self._config["trial_id"])

    def assign(self, config: dict[str, Any]) -> None:
        """Leave the trial there is, and take up another."""
        self._close_session()
        self._config = config["common"] | config["choice"]
        self._waiting_since: float | None = None
        self._stop_reason: str | None = None
        self._exchange: tuple[str, str, dict[str, float]] | None = None
        os.environ.update(self._config["environment"])

    def stop_early(self, reason: str) -> None:
        """Let the trial end as a finished one after the epoch that it is in."""
        self._stop_reason = reason

    def take_over(self, donor: str, changed: str, values: dict[str, float]) -> None:
        """Go on from another member's networks under changed settings (a TrialSpec in JSON)."""
        self._exchange = (donor, changed, values)

    def pause(self) -> None:
        """Leave the trial for a while to whichever worker takes it up next."""
        try:
            if self._session is not None:
                self._exchange_networks(self._session)
        finally:
            self._close_session()

    def step(self) -> dict[str, Any]:
        """Train for about STEP_SECONDS; how the trial stands.

        Raises RankLostError where another of the trial's processes is gone: Tune then has the
        trial go on in another worker, which starts all of them anew.
        """
        try:
            progress = self._advance()
            self._waiting_since = None
        except (HeldError, SilentStoreError) as error:
            progress = self._wait(error)
        except Exception as error:
            progress = self._fail(error)
        return progress | {"notices": self._notices.take()}

    def save(self) -> None:
        """Leave a checkpoint now."""
        if self._session is not None:
            self._session.checkpoint_or_warn()

    def close(self) -> None:
        """Leave a checkpoint and a run marked KILLED."""
        self._close_session()
        logging.getLogger("switokd").removeHandler(self._notices)

    def _advance(self) -> dict[str, Any]:
        session = self._session or self._begin()
        if self._stop_reason is not None:
            session.stop_early(self._stop_reason)
        self._exchange_networks(session)
        metric = self._config["metric"]
        stop_at = time.monotonic() + STEP_SECONDS
        report = None
        while not session.done and (left := stop_at - time.monotonic()) > 0:
            report = session.advance(left) or report
            if report is not None and metric is not None:
                break
        progress = describe_progress(session, report)
        if report is not None and metric is not None:
            progress[OBJECTIVE] = epoch_values(report)[metric]
            # the driver may be a later one than that which changed them
            progress["point"] = json.dumps(session.changed_values or self._config["sampled"])
        if session.done:
            result = session.finish(STEP_SECONDS)
            progress |= {"done": True, "run_id": result.run_id, "stopped": session.why_stopped}
            self._close_session()
        return progress

    def _exchange_networks(self, session: TrialSession) -> None:
        if self._exchange is not None:
            (donor, changed, values), self._exchange = self._exchange, None
            session.take_over(donor, TrialSpec.model_validate_json(changed), values)

    def _begin(self) -> TrialSession:
        trial = TrialSpec.model_validate_json(self._config["trial"])
        tracked = TrackedExperiment(*self._config["store"])
        tracker = TrialTracker(tracked, trial, self._config["sampled"])
        session = open_session(
            trial,
            runs=Path(self._config["runs"]),
            tracker=tracker,
            threads=self._config["threads"],
            continues=self._config["continues"],
            alone=self._alone,
            launcher=self._launcher,
        )
        self._session = self._held.enter_context(session)
        return self._session

    def _wait(self, error: HeldError | SilentStoreError) -> dict[str, Any]:
        """What may pass is tried again in the next step, so that Tune can stop the trial."""
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        held = isinstance(error, HeldError)
        if now - self._waiting_since > (LOCK_TIMEOUT_SECONDS if held else FINISH_PATIENCE_SECONDS):
            return self._fail(error)
        if held:
            with GPU.resting():
                time.sleep(STEP_SECONDS / 2)
        return {"done": False, "waiting": str(error)}

    def _fail(self, error: Exception) -> dict[str, Any]:
        if isinstance(error, torch.AcceleratorError):
            self.broken = self.broken or not gpu_answers()
        error = self._close_session(error) or error
        if isinstance(error, RankLostError):
            raise error
        return {
            "done": True,
            "failure": failure_reason(error),
            "out_of_memory": isinstance(error, torch.OutOfMemoryError),
        }

    def _close_session(self, error: Exception | None = None) -> Exception | None:
        """Leave the trial, by an error or without; the error's cause, where the session knows."""
        session, self._session = self._session, None
        cause: Exception | None = None
        if session is not None:
            # as the end of a `with` block that spans Tune's steps
            try:
                self._held.__exit__(type(error) if error else None, error, None)
            except Exception as raised:
                if error is None:
                    raise
                cause = raised
            if torch.cuda.is_available() and not self.broken:
                # other workers share the device
                with GPU.alone():
                    torch.cuda.empty_cache()
        return cause


def gpu_answers() -> bool:
    """Whether the GPU still works for this process: after some errors every later call fails."""
    try:
        torch.cuda.synchronize()
    except (RuntimeError, AssertionError):
        return False
    return True


def trial_config(
    trial: TrialSpec, point: SearchPoint | None, continues: Sequence[str] = ()
) -> dict[str, Any]:
    """A trial as a worker takes it, with its point where it is a search's.

    `continues`: trials, by id, that are it with fewer epochs. A scheduler may change `point`;
    `sampled` stays what the trial began with.
    """
    return {
        "trial_id": trial.trial_id,
        "trial": trial.model_dump_json(),
        "point": point,
        "sampled": point,
        "continues": list(continues),
    }


class NoticeHandler(logging.Handler):
    """Collects what the driver should tell the user."""

    def __init__(self, level: int, of_thread: str | None = None) -> None:
        """`of_thread`: only what this thread says, and those that it has started."""
        super().__init__(level)
        self._lines: list[str] = []
        self._of_thread = of_thread or ""

    def emit(self, record: logging.LogRecord) -> None:
        if (record.threadName or "").startswith(self._of_thread):
            self._lines.append(record.getMessage())

    def take(self) -> list[str]:
        """The lines since the last call."""
        taken, self._lines = self._lines, []
        return taken


def describe_progress(session: TrialSession, report: EpochReport | None) -> dict[str, Any]:
    """What the table of trials shows: epochs, seconds, accuracy of S1, gap and expert share."""
    trainer = session.trainer
    seconds = trainer.train_seconds + trainer.epoch_seconds
    progress: dict[str, Any] = {
        "done": False,
        "epoch": trainer.epoch,
        "epochs": trainer.epochs,
        "progress": trainer.step / trainer.total_steps,
        "train_seconds": seconds,
    }
    if report is not None:
        progress["val_top1"] = report.scores["S1"].top1
    links = trainer.timeline.links
    if links and trainer.step:
        last = min(trainer.step, trainer.data.steps_per_epoch)
        switches = [trainer.timeline.switch(link) for link in links]
        progress["gap"] = sum(float(s["gap"][-last:].mean()) for s in switches) / len(links)
        progress["expert"] = sum(float(s["expert"].mean()) for s in switches) / len(links)
    return progress
