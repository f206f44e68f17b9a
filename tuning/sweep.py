"""A sweep: what an experiment still lacks is trained, tracked and compared.

A trial's state lies with its id, in the tracking store and under `runs/`; the driver keeps none,
so that the same command goes on after any end.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from switokd import tracking
from switokd.experiment import Experiment
from switokd.lock import FileLock, HeldError, writable
from switokd.session import trial_folder
from switokd.spec import TrialSpec
from switokd.tracking import Store, TrackingError
from switokd.train import open_data
from switokd.validation import SpecError
from tuning.placement import Placement, place

# how long the end of a sweep waits for a silent tracking store
STORE_PATIENCE_SECONDS = 60.0
# a worker that was killed, or whose driver was, is gone after some seconds
DYING_SECONDS = 15.0


def sweep(
    experiment: Experiment, *, runs: Path, console: Console, fresh: bool = False
) -> dict[str, str]:
    """Train every trial of the experiment that has not finished; the failures, by trial id.

    `fresh` deletes the runs and checkpoints there are first. Raises SpecError and DataError for
    what the user can mend, KeyboardInterrupt after an orderly stop.
    """
    runs = writable(runs)
    folder = runs / experiment.name
    with FileLock(folder / "sweep.lock", f"a sweep of {experiment.name!r}"):
        store = tracking.open_store(experiment.name, runs=runs)
        if fresh:
            # nothing is discarded for a sweep that could not run
            check_data(experiment.trials)
            discard(experiment.trials, store, runs)
        close_abandoned(store, runs, experiment.name)
        missing = missing_trials(experiment.trials, store)
        finished = len(experiment.trials) - len(missing)
        console.print(
            f"{experiment.name}: {len(experiment.trials)} trials, {finished} finished before, "
            f"{len(missing)} to train",
            highlight=False,
        )
        check_data(missing)
        return _train(missing, tracking.open_sweep(store, experiment.name), runs, console)


def _train(trials: list[TrialSpec], store: Store, runs: Path, console: Console) -> dict[str, str]:
    """Train `trials` within the sweep's run, which ends as they do."""
    failures: dict[str, str] = {}
    status = "FAILED"
    try:
        if trials:
            failures = _schedule(trials, store, runs, console)
        status = "FAILED" if failures else "FINISHED"
        return failures
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        try:
            if trials:
                close_abandoned(store, runs, trials[0].experiment, failures)
            _end(store, str(store.sweep_run_id), status)
        except TrackingError as error:
            console.print(f"{error}; runs left open are closed by the next call", soft_wrap=True)


def _schedule(
    trials: list[TrialSpec], store: Store, runs: Path, console: Console
) -> dict[str, str]:
    # Ray takes a second to import, which a sweep with nothing to do need not spend
    from tuning.progress import SweepProgress
    from tuning.scheduling import ray_session, run_trials

    with ray_session() as machines:
        if machines.nodes > 1 and tracking.is_local(store.uri):
            raise SpecError(
                f"the cluster has {machines.nodes} nodes, and {store.uri} is a file of this one: "
                "set MLFLOW_TRACKING_URI to a server that all nodes reach"
            )
        try:
            placement = place(trials[0].resources, len(trials), machines.cpus, machines.gpus)
        except ValueError as error:
            raise SpecError(str(error)) from None
        console.print(
            f"{placement.slots} at once, {placement.cpus} CPU cores and "
            f"{placement.gpus:g} GPUs each",
            highlight=False,
        )
        with SweepProgress(trials, console) as progress:
            run_trials(trials, store, runs, placement, progress)
            cramped = [trial for trial in trials if trial.trial_id in progress.out_of_memory]
            if cramped and placement.gpus < 1:
                # a device of its own may be enough
                alone = Placement(placement.cpus, 1.0, int(machines.gpus))
                run_trials(cramped, store, runs, alone, progress)
        return progress.failures


def check_data(trials: Sequence[TrialSpec]) -> None:
    """Open each data set once: what is missing or damaged is found before a worker starts."""
    seen = set()
    for trial in trials:
        recipe = trial.recipe
        request = (trial.dataset, trial.dataset_path, recipe.image_size, recipe.holdout)
        if request not in seen:
            seen.add(request)
            open_data(trial).close()


def discard(trials: Sequence[TrialSpec], store: Store, runs: Path) -> None:
    """Forget trials: their runs are deleted restorably, their checkpoints for good.

    Raises HeldError where a process trains one of them.
    """
    folders = [trial_folder(runs, trial.experiment, trial.trial_id) for trial in trials]
    for folder in folders:
        if _held(folder, DYING_SECONDS):
            FileLock(folder / "lock", f"trial {folder.name}").release()
    found = tracking.find_runs(store)
    ids = {trial.trial_id for trial in trials}
    tracking.delete_runs(store, [run.info.run_id for key, run in found.items() if key in ids])
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def missing_trials(trials: Sequence[TrialSpec], store: Store) -> list[TrialSpec]:
    """The trials without a finished run."""
    found = tracking.find_runs(store)
    finished = {key for key, run in found.items() if run.info.status == "FINISHED"}
    return [trial for trial in trials if trial.trial_id not in finished]


def close_abandoned(
    store: Store, runs: Path, experiment: str, failures: Mapping[str, str] | None = None
) -> None:
    """End the runs that are RUNNING though no process trains their trial.

    They become FAILED with the reason where `failures`, the outcome of a sweep that has just ended,
    has one by trial id; else KILLED. Raises SilentStoreError where the store does not answer.
    """
    patience = 0.0 if failures is None else DYING_SECONDS

    def close() -> None:
        for trial_id, run in tracking.find_runs(store).items():
            if run.info.status != "RUNNING":
                continue
            if not _held(trial_folder(runs, experiment, trial_id), patience):
                reason = (failures or {}).get(trial_id)
                status = "FAILED" if reason else "KILLED"
                tracking.end_run(store, run.info.run_id, status, reason)

    tracking.insist(close, store, time.monotonic() + STORE_PATIENCE_SECONDS)


def _end(store: Store, run_id: str, status: str) -> None:
    deadline = time.monotonic() + STORE_PATIENCE_SECONDS
    tracking.insist(lambda: tracking.end_run(store, run_id, status), store, deadline)


def _held(folder: Path, patience_seconds: float) -> bool:
    """Whether a living process trains the trial of this folder, and still does after a while."""
    deadline = time.monotonic() + patience_seconds
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
