"""Runs that a sweep finds: abandoned ones are closed, and with `--fresh` all are deleted."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switokd.files.lock import FileLock, HeldError
from switokd.files.storage import write_durably
from switokd.session.folders import checkpoint_folder, trial_folder
from switokd.spec.trial import TrialSpec
from switokd.tracking import tracker as tracking
from switokd.tracking.retry import retry_until
from switokd.tracking.store import TrackedExperiment
from switokd.validation import SpecError
from tuning.plan import Plan

if TYPE_CHECKING:
    from tuning.progress import Failure

# how long the end of a sweep waits for a silent tracking store
STORE_TIMEOUT_SECONDS = 60.0
# a worker that was killed, or whose driver was, is gone after some seconds
WORKER_EXIT_SECONDS = 15.0


class FreshStart:
    """A `--fresh` that has not come to its end, noted in the experiment's folder.

    Whoever goes on with it ends the deleting, and lets its trials begin at their first step.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "fresh.json"

    def trial_ids(self) -> frozenset[str]:
        """The trials that are to begin anew; none where nothing is noted."""
        return frozenset(self._noted().get("trials", ()))

    @property
    def half_discarded(self) -> bool:
        """Whether its process was killed while it deleted what there was."""
        return not self._noted().get("discarded", True)

    def note(self, trials: Sequence[TrialSpec], discarded: bool) -> None:
        ids = [trial.trial_id for trial in trials]
        write_durably(self._file, json.dumps({"trials": ids, "discarded": discarded}).encode())

    def end(self) -> None:
        self._file.unlink(missing_ok=True)

    def _noted(self) -> dict[str, Any]:
        try:
            noted: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return noted


def start_fresh(
    plan: Plan, fresh: FreshStart, store: TrackedExperiment, runs: Path, asked: bool
) -> bool:
    """Discard a plan's trials where it is `asked`, or where an earlier call was killed over it.

    Whether anything was. Raises HeldError where a process trains one of them.
    """
    if not asked and not fresh.half_discarded:
        return False
    known = fresh.trial_ids()
    trials = [trial for trial in plan.trials if asked or trial.trial_id in known]
    check_untrained(trials, runs)
    fresh.note(trials, discarded=False)
    discard(trials, store, runs)
    fresh.note(trials, discarded=True)
    return True


def check_untrained(trials: Sequence[TrialSpec], runs: Path) -> None:
    """Raises HeldError where a process trains one of the trials."""
    for trial in trials:
        folder = trial_folder(runs, trial.experiment, trial.trial_id)
        if in_training(folder, WORKER_EXIT_SECONDS):
            FileLock(folder / "lock", f"trial {folder.name}").release()


def discard(trials: Sequence[TrialSpec], store: TrackedExperiment, runs: Path) -> None:
    """Forget trials: their runs are deleted restorably, their checkpoints for good.

    No process must train one of them.
    """
    folders = [trial_folder(runs, trial.experiment, trial.trial_id) for trial in trials]
    found = store.trial_runs()
    ids = {trial.trial_id for trial in trials}
    try:
        # before the runs: a run whose trial begins again is better than a checkpoint without a run
        for trial, folder in zip(trials, folders, strict=True):
            checkpoint_folder(trial, runs).delete()
            if folder.is_dir():
                shutil.rmtree(folder)
    except OSError as error:
        reason = " ".join(str(error).split())
        raise SpecError(
            f"the checkpoints of an earlier sweep cannot be deleted: {reason}"
        ) from None
    tracking.delete_runs(store, [run.info.run_id for key, run in found.items() if key in ids])


def close_abandoned(
    store: TrackedExperiment,
    runs: Path,
    experiment: str,
    failures: Sequence[Failure] | None = None,
) -> None:
    """End the runs of trials that no process trains any more.

    `failures`, of a sweep that has just ended, become FAILED with the reason where a worker had
    begun, also those that never got as far as the store; what else is RUNNING becomes KILLED.
    Raises SilentStoreError where the store does not answer.
    """
    timeout = 0.0 if failures is None else WORKER_EXIT_SECONDS
    failed = {failure.trial.trial_id: failure for failure in failures or () if failure.begun}

    def trained(trial_id: str) -> bool:
        return in_training(trial_folder(runs, experiment, trial_id), timeout)

    def close() -> None:
        for trial_id, run in store.running().items():
            if trial_id not in failed and not trained(trial_id):
                tracking.end_run(store, run.info.run_id, "KILLED")
        known = store.trial_runs() if failed else {}
        for trial_id, failure in failed.items():
            # a worker that lives says itself why its trial failed
            told = trial_id in known and known[trial_id].info.status == "FAILED"
            if not told and not trained(trial_id):
                tracking.record_failure(store, failure.trial, failure.point, failure.reason)

    retry_until(time.monotonic() + STORE_TIMEOUT_SECONDS, close, store.uri)


def end_sweep(store: TrackedExperiment, status: str) -> None:
    """End the sweep's own run. Raises SilentStoreError where the store does not answer."""
    run_id, deadline = str(store.sweep_run_id), time.monotonic() + STORE_TIMEOUT_SECONDS
    retry_until(deadline, lambda: tracking.end_run(store, run_id, status), store.uri)


def in_training(folder: Path, timeout_seconds: float) -> bool:
    """Whether a living process trains the trial of this folder, and still does after a while."""
    deadline = time.monotonic() + timeout_seconds
    while folder.is_dir():
        try:
            FileLock(folder / "lock", "a trial").release()
        except HeldError:
            if time.monotonic() >= deadline:
                return True
            time.sleep(0.1)
        else:
            return False
    return False
