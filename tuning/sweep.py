"""A sweep: what an experiment still lacks is trained, tracked and compared.

A trial's state lies with its id, in the tracking store and under `runs/`; the driver keeps none,
so that the same command goes on after any end.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from switokd.files.lock import FileLock, HeldError, writable
from switokd.files.storage import open_folder
from switokd.session.trial_session import checkpoint_folder, trial_folder
from switokd.spec.experiment import Experiment
from switokd.spec.trial import TrialSpec
from switokd.tracking import tracker as tracking
from switokd.tracking.address import is_local, update_statistics
from switokd.tracking.retry import TrackingError, retry_until
from switokd.tracking.store import TrackedExperiment
from switokd.training.build import open_data
from switokd.validation import SpecError
from tuning.cost.estimate import kept_estimate, truth_line
from tuning.placement import Placement, place
from tuning.plan import Plan, finished_histories, make_plan

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler

    from tuning.progress import SweepProgress
    from tuning.workers.scheduling import Work

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
        store = tracking.open_experiment(experiment.name, runs=runs)
        plan = make_plan(experiment, store)
        if fresh:
            # nothing is discarded for a sweep that could not run
            check_data(plan.trials)
            discard(plan.trials, store, runs)
            plan = replace(make_plan(experiment, store), continues={})
        close_abandoned(store, runs, experiment.name)
        finished = len(plan.values)
        console.print(
            f"{experiment.name}: {plan.total} trials, {finished} finished before, "
            f"{plan.total - finished} to train",
            highlight=False,
        )
        if tuned_on_the_test_set(experiment):
            console.print(
                f"recipe.holdout is 0: {experiment.search.metric} is measured on the test set, on "
                "which this search is tuned",
                highlight=False,
                soft_wrap=True,
            )
        check_data(plan.missing)
        sweep_store = tracking.open_sweep(store, experiment.name)
        return _train(experiment, plan, sweep_store, runs, console)


def print_best(experiment: Experiment, plan: Plan, console: Console) -> None:
    """The best point of a search in one line."""
    search = experiment.search
    found = {key: value for key, value in plan.values.items() if value is not None}
    if found:
        best = (max if search.mode == "max" else min)(found, key=lambda key: found[key])
        candidate = plan.candidates[best]
        values = "  ".join(f"{key}={value}" for key, value in candidate.point.items())
        if search.scheduler == "pbt":
            values = f"began with {values}"
        console.print(
            f"best of {len(found)}: {search.metric} {found[best]:.6g}  {best}  "
            f"{candidate.trial.pair} {candidate.trial.method.name}  {values}",
            highlight=False,
            soft_wrap=True,
        )


def tuned_on_the_test_set(experiment: Experiment) -> bool:
    """Whether the search judges by what is also reported as the result."""
    search = experiment.search
    guided = search.draws or search.scheduler != "none"
    judged = search.metric.startswith(("val_", "best_val_", "last_val_", "agreement/"))
    return guided and judged and any(not recipe.holdout for recipe in experiment.recipe)


def _train(
    experiment: Experiment, plan: Plan, store: TrackedExperiment, runs: Path, console: Console
) -> dict[str, str]:
    """Train what is missing within the sweep's run, which ends as its trials do."""
    failures: dict[str, str] = {}
    status = "FAILED"
    work_left = len(plan.values) < plan.total
    try:
        if work_left:
            failures = _schedule(experiment, plan, store, runs, console)
        if experiment.search.draws:
            # a store that is silent now is the business of what follows
            with contextlib.suppress(TrackingError):
                now = make_plan(experiment, store) if work_left else plan
                print_best(experiment, now, console)
        status = "FAILED" if failures else "FINISHED"
        return failures
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        try:
            if work_left:
                close_abandoned(store, runs, experiment.name, failures)
                update_statistics(store.uri)
            _end(store, str(store.sweep_run_id), status)
        except TrackingError as error:
            console.print(f"{error}; runs left open are closed by the next call", soft_wrap=True)


def _schedule(
    experiment: Experiment, plan: Plan, store: TrackedExperiment, runs: Path, console: Console
) -> dict[str, str]:
    # Ray takes a second to import, which a sweep with nothing to do need not spend
    from tuning.cost.gpu_share import settled
    from tuning.progress import SweepProgress
    from tuning.workers.scheduling import ray_session, run_trials

    missing, to_train = plan.missing, plan.total - len(plan.values)
    estimated = kept_estimate(runs / experiment.name, plan)
    with ray_session() as machines:
        if machines.nodes > 1 and is_local(store.uri):
            raise SpecError(
                f"the cluster has {machines.nodes} nodes, and {store.uri} is a file of this one: "
                "set MLFLOW_TRACKING_URI to a server that all nodes reach"
            )
        try:
            resources = settled(experiment.resources, missing or plan.trials, machines.gpus)
            placement = place(resources, to_train, machines.cpus, machines.gpus)
        except ValueError as error:
            raise SpecError(str(error)) from None
        console.print(
            f"{placement.slots} at once, {placement.cpus} CPU cores and "
            f"{placement.gpus:g} GPUs each",
            highlight=False,
        )
        with SweepProgress(missing, console, to_train, plan.points) as progress:
            work = guided_work(experiment, plan, store, runs, progress)
            run_trials(work, missing, placement, progress)
            followed = [each.trial for each in progress.trials.values()]
            cramped = [trial for trial in followed if trial.trial_id in progress.out_of_memory]
            if cramped and 0 < placement.gpus < 1:
                # a device of its own may be enough
                alone = Placement(placement.cpus, 1.0, int(machines.gpus))
                progress.await_again(cramped)
                unguided = replace(work, scheduler=None, searcher=None, takes_turns=False)
                run_trials(unguided, cramped, alone, progress)
        if estimated is not None and not progress.failures:
            truth = truth_line(estimated, progress.wall_seconds, progress.trial_seconds, placement)
            console.print(truth, highlight=False, soft_wrap=True)
        return progress.failures


def guided_work(
    experiment: Experiment,
    plan: Plan,
    store: TrackedExperiment,
    runs: Path,
    progress: SweepProgress,
) -> Work:
    """The work of a sweep, with the scheduler and the searcher that its search asks for."""
    from tuning.schedulers.stopping import stopping_scheduler
    from tuning.workers.scheduling import Work

    search, searcher = experiment.search, None
    scheduler: TrialScheduler | None
    if search.algorithm == "tpe":
        from tuning.search.point_search import PointSearch

        searcher = PointSearch(experiment, plan, store, progress)
    if search.scheduler == "pbt":
        from tuning.schedulers.population import Population

        scheduler = Population(experiment, progress)
    else:
        scheduler = stopping_scheduler(search, max(recipe.epochs for recipe in experiment.recipe))
        if scheduler is not None:
            scheduler.recall(finished_histories(plan, store, search.metric))
    return Work(
        experiment.name,
        store,
        runs,
        search.metric,
        plan,
        scheduler,
        searcher,
        takes_turns=search.scheduler == "pbt",
    )


def check_data(trials: Sequence[TrialSpec]) -> None:
    """Open each data set once: what is missing or damaged is found before a worker starts.

    The folder for checkpoints too, where they have an address.
    """
    seen = set()
    for trial in trials:
        recipe = trial.recipe
        request = (trial.dataset, trial.dataset_path, recipe.image_size, recipe.holdout)
        if request not in seen:
            seen.add(request)
            open_data(trial).close()
    for storage in {trial.resources.storage for trial in trials} - {None}:
        try:
            open_folder(str(storage)).names()
        except OSError as error:
            reason = " ".join(str(error).split())
            raise SpecError(f"resources.storage: {storage} cannot be read: {reason}") from None


def discard(trials: Sequence[TrialSpec], store: TrackedExperiment, runs: Path) -> None:
    """Forget trials: their runs are deleted restorably, their checkpoints for good.

    Raises HeldError where a process trains one of them.
    """
    folders = [trial_folder(runs, trial.experiment, trial.trial_id) for trial in trials]
    for folder in folders:
        if _held(folder, DYING_SECONDS):
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
    patience = 0.0 if failures is None else DYING_SECONDS

    def close() -> None:
        for trial_id, run in store.trial_runs().items():
            if run.info.status != "RUNNING":
                continue
            if not _held(trial_folder(runs, experiment, trial_id), patience):
                reason = (failures or {}).get(trial_id)
                status = "FAILED" if reason else "KILLED"
                tracking.end_run(store, run.info.run_id, status, reason)

    retry_until(time.monotonic() + STORE_PATIENCE_SECONDS, close, store.uri)


def _end(store: TrackedExperiment, run_id: str, status: str) -> None:
    deadline = time.monotonic() + STORE_PATIENCE_SECONDS
    retry_until(deadline, lambda: tracking.end_run(store, run_id, status), store.uri)


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
