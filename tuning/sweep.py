"""A sweep: what an experiment still lacks is trained, tracked and compared.

A trial's state lies with its id, in the tracking store and under `runs/`; the driver keeps none,
so that the same command goes on after any end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from switokd.files.lock import FileLock, writable
from switokd.spec.experiment import Experiment
from switokd.tracking import tracker as tracking
from switokd.tracking.address import update_statistics
from switokd.tracking.holder import Holder
from switokd.tracking.retry import TrackingError
from switokd.tracking.store import TrackedExperiment
from switokd.validation import SpecError
from tuning.cost.estimate import compare_with_estimate, load_estimate
from tuning.placement import Placement, allocate
from tuning.plan import Plan, make_plan, past_results
from tuning.preflight import check_data, check_store_is_shared
from tuning.schedulers import SCHEDULERS
from tuning.search import GUIDED_SEARCHES
from tuning.summary import print_best, print_plan
from tuning.upkeep import FreshStart, close_abandoned, end_sweep, start_fresh

if TYPE_CHECKING:
    from tuning.progress import Failure, SweepProgress
    from tuning.workers.cluster import ClusterResources
    from tuning.workers.scheduling import Job


def sweep(
    experiment: Experiment,
    *,
    runs: Path,
    console: Console,
    fresh: bool = False,
    again: Sequence[str] | None = None,
) -> dict[str, str]:
    """Train every trial of the experiment that has not finished; the failures, by trial id.

    `fresh` deletes the runs and checkpoints there are first. `again`: the arguments of the
    `switokd` that goes on, for a process which may become it where Ray dies. Raises SpecError and
    DataError for what the user can mend, KeyboardInterrupt after an orderly stop.
    """
    runs = writable(runs)
    folder = runs / experiment.name
    with (
        FileLock(folder / "sweep.lock", f"a sweep of {experiment.name!r}"),
        Holder(experiment.name, folder) as holder,
    ):
        store = tracking.open_experiment(experiment.name, runs=runs)
        holder.claim(store)
        plan = make_plan(experiment, store)
        if fresh:
            # nothing is discarded for a sweep that could not run
            check_data(plan.trials)
        started = FreshStart(folder)
        if start_fresh(plan, started, store, runs, asked=fresh):
            plan = make_plan(experiment, store)
        anew = started.trial_ids()
        continues = {key: ids for key, ids in plan.continues.items() if key not in anew}
        plan = replace(plan, continues=continues)
        close_abandoned(store, runs, experiment.name)
        print_plan(experiment, plan, console)
        check_data(plan.missing)
        sweep_store = tracking.open_sweep(store, experiment.name)
        holder.claim(store)
        failures = _train_tracked(experiment, plan, sweep_store, runs, console, again, holder)
        if not failures:
            started.end()
        return failures


def _train_tracked(
    experiment: Experiment,
    plan: Plan,
    store: TrackedExperiment,
    runs: Path,
    console: Console,
    again: Sequence[str] | None,
    holder: Holder,
) -> dict[str, str]:
    """Train what is missing within the sweep's run, which ends as its trials do."""
    failures: list[Failure] = []
    status = "FAILED"
    try:
        if plan.to_train:
            failures = _train(experiment, plan, store, runs, console, again, holder)
        if experiment.search.draws:
            # a store that is silent now is the business of what follows
            with contextlib.suppress(TrackingError):
                now = make_plan(experiment, store) if plan.to_train else plan
                print_best(experiment, now, console)
        status = "FAILED" if failures else "FINISHED"
        return {failure.trial.trial_id: failure.reason for failure in failures}
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        # the runs may be another sweep's to close by now
        if not holder.displaced:
            try:
                if plan.to_train:
                    close_abandoned(store, runs, experiment.name, failures)
                    update_statistics(store.uri)
                end_sweep(store, status)
            except TrackingError as error:
                console.print(
                    f"{error}; runs left open are closed by the next call", soft_wrap=True
                )


def _train(
    experiment: Experiment,
    plan: Plan,
    store: TrackedExperiment,
    runs: Path,
    console: Console,
    again: Sequence[str] | None,
    holder: Holder,
) -> list[Failure]:
    # Ray takes a second to import, which a sweep with nothing to do need not spend
    from tuning.going_on import LostRay
    from tuning.progress import SweepProgress
    from tuning.workers.cluster import ray_session
    from tuning.workers.ray_watch import RayWatch, ray_processes
    from tuning.workers.scheduling import run_trials

    estimate = load_estimate(runs / experiment.name, plan)
    with ray_session(experiment.user_modules) as cluster:
        # Ray has taken its time to start: who claimed at the same moment is seen by now
        holder.confirm()
        check_store_is_shared(store, len(cluster.nodes))
        placement = _placement(experiment, plan, cluster)
        console.print(placement.in_words, highlight=False)
        with SweepProgress(plan.missing, console, plan.to_train, plan.points) as progress:
            holder.tell(progress.standing)
            job = _job(experiment, plan, store, runs, progress)
            lost = LostRay(store, runs, experiment.name, again, console, progress)
            with RayWatch(ray_processes(), lost):
                trials = plan.missing
                if experiment.search.draws or experiment.search.judges_early:
                    # whoever judges by results compares students, and chooses no teacher
                    first = [trial for trial in trials if trial.trial_id in plan.teaching]
                    trials = [trial for trial in trials if trial.trial_id not in plan.teaching]
                    if first:
                        run_trials(_unguided(job, progress), first, placement, progress)
                run_trials(job, trials, placement, progress)
                if 0 < placement.gpus < 1:
                    # a device of its own may be enough
                    alone = Placement(placement.cpus, 1.0, int(cluster.gpus))
                    _retry_out_of_memory(job, alone, progress)
        if estimate is not None and not progress.failures:
            line = compare_with_estimate(
                estimate, progress.wall_seconds, progress.trial_seconds, placement
            )
            console.print(line, highlight=False, soft_wrap=True)
        return progress.failed


def _placement(experiment: Experiment, plan: Plan, cluster: ClusterResources) -> Placement:
    from tuning.cost.gpu_share import with_measured_share

    try:
        resources = with_measured_share(
            experiment.resources, plan.missing or plan.trials, cluster.gpus
        )
        return allocate(resources, plan.to_train, cluster.nodes)
    except ValueError as error:
        raise SpecError(str(error)) from None


def _job(
    experiment: Experiment,
    plan: Plan,
    store: TrackedExperiment,
    runs: Path,
    progress: SweepProgress,
) -> Job:
    """The trials' common ground, with the scheduler and the searcher that the search names."""
    from tuning.workers.scheduling import Job

    search, searcher = experiment.search, None
    if search.is_guided:
        build = GUIDED_SEARCHES.load(search.algorithm)
        searcher = build(experiment, plan, store, progress)
    scheduler = SCHEDULERS.load(search.scheduler)(
        experiment, progress, lambda: past_results(plan, store, search.metric)
    )
    judged_by = search.metric if search.judges_early else None
    return Job(experiment, plan, store, runs, scheduler, searcher, judged_by, search.is_population)


def _retry_out_of_memory(job: Job, placement: Placement, progress: SweepProgress) -> None:
    """Run what did not fit into its share of a device once more, unguided, and whom it teaches."""
    from tuning.workers.scheduling import run_trials

    big = progress.out_of_memory
    trials = [
        each.trial
        for key, each in progress.trials.items()
        if key in big or not big.isdisjoint(each.trial.trained_by.values())
    ]
    if trials:
        progress.requeue(trials)
        run_trials(_unguided(job, progress), trials, placement, progress)


def _unguided(job: Job, progress: SweepProgress) -> Job:
    """The job of trials that nobody chooses, judges or pauses."""
    fifo = SCHEDULERS.load("none")(job.experiment, progress, list)
    return replace(job, scheduler=fifo, searcher=None, judged_by=None, takes_turns=False)
