"""Runs that a sweep finds: abandoned ones are closed, and with `--fresh` all are deleted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from switokd.files.lock import FileLock, HeldError
from switokd.session.trial_session import checkpoint_folder, trial_folder
from switokd.spec.trial import TrialSpec
from switokd.tracking import tracker as tracking
from switokd.tracking.retry import retry_until
from switokd.tracking.store import TrackedExperiment
from switokd.validation import SpecError

# how long the end of a sweep waits for a silent tracking store
STORE_TIMEOUT_SECONDS = 60.0
# a worker that was killed, or whose driver was, is gone after some seconds
WORKER_EXIT_SECONDS = 15.0


def discard(trials: Sequence[TrialSpec], store: TrackedExperiment, runs: Path) -> None:
    """Forget trials: their runs are deleted restorably, their checkpoints for good.

    Raises HeldError where a process trains one of them.
    """
    folders = [trial_folder(runs, trial.experiment, trial.trial_id) for trial in trials]
    for folder in folders:
        if in_training(folder, WORKER_EXIT_SECONDS):
            FileLock(folder / "lock", f"trial {folder.name}").release()
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
    store: TrackedExperiment, runs: Path, experiment: str, failures: Mapping[str, str] | None = None
) -> None:
    """End the runs that are RUNNING though no process trains their trial.

    They become FAILED with the reason where `failures`, the outcome of a sweep that has just ended,
    has one by trial id; else KILLED. Raises SilentStoreError where the store does not answer.
    """
    timeout = 0.0 if failures is None else WORKER_EXIT_SECONDS

    def close() -> None:
        for trial_id, run in store.trial_runs().items():
            if run.info.status != "RUNNING":
                continue
            if not in_training(trial_folder(runs, experiment, trial_id), timeout):
                reason = (failures or {}).get(trial_id)
                status = "FAILED" if reason else "KILLED"
                tracking.end_run(store, run.info.run_id, status, reason)

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
