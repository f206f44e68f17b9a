"""One run of Ray Tune: trials on reused actors, as many at once as there are slots."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.schedulers import TrialScheduler

from switokd.spec.experiment import Experiment
from switokd.spec.trial import TrialSpec
from switokd.tracking.store import TrackedExperiment
from tuning.placement import Placement
from tuning.plan import Plan
from tuning.progress import SweepProgress
from tuning.tune_internals import silence_worker_deaths
from tuning.workers.progress_callback import ProgressCallback, trial_id
from tuning.workers.ray_environment import for_workers
from tuning.workers.shared_process import keeper
from tuning.workers.trial_queue import TrialQueue
from tuning.workers.trial_run import trial_config
from tuning.workers.trial_worker import TrialWorker

# a machine that is taken away costs one try; a trial that kills its worker each time must end
WORKER_DEATHS_SURVIVED = 5
# the folder of Tune's own records, beside the trials
RECORDS = "ray"


class TrialSource(Protocol):
    """A Tune searcher that brings a known number of trials."""

    total: int

    @property
    def exhausted(self) -> bool:
        """Whether every trial has been given to Tune."""
        ...


@dataclass(frozen=True)
class Job:
    """What the trials of a sweep have in common: where they leave things, and who guides them.

    A searcher brings the trials itself; else they are queued. `judged_by`: the metric that workers
    report after each epoch, where the scheduler looks at it; `takes_turns`: all trials begin and
    are paused in turn, instead of waiting for a free slot.
    """

    experiment: Experiment
    plan: Plan
    store: TrackedExperiment
    runs: Path
    scheduler: TrialScheduler
    searcher: TrialSource | None = None
    judged_by: str | None = None
    takes_turns: bool = False


def run_trials(
    job: Job, trials: list[TrialSpec], placement: Placement, progress: SweepProgress
) -> None:
    """Train `trials`, or those of the job's searcher; returns when all have ended.

    Raises KeyboardInterrupt after Tune has stopped the trials where the user interrupts.
    """
    folder = job.runs / job.experiment.name / RECORDS
    searcher = job.searcher
    if searcher is None and not job.takes_turns:
        searcher = TrialQueue(trials, job.plan, progress)
    # a dead worker is told of by the progress table, in one line
    silence_worker_deaths()
    try:
        side_by_side = 0 < placement.gpus < 1 and job.experiment.resources.gpu_sharing == "threads"
        with sigterm_as_sigint(), keeper(side_by_side) as shared:
            _tuner(job, trials, searcher, placement, progress, shared).fit()
    finally:
        # Tune's own records: we find everything by the trials' ids
        shutil.rmtree(folder, ignore_errors=True)
    of = None if job.searcher is not None else [trial.trial_id for trial in trials]
    if progress.unfinished(of) or not (searcher is None or searcher.exhausted):
        # Tune keeps the first interrupt to itself: it stops the trials and returns
        raise KeyboardInterrupt


def _tuner(
    job: Job,
    trials: list[TrialSpec],
    searcher: TrialSource | None,
    placement: Placement,
    progress: SweepProgress,
    shared: str | None,
) -> tune.Tuner:
    # one for each of a trial's processes, the worker in the first
    bundle = {"CPU": placement.cpus} | ({"GPU": placement.gpus} if placement.gpus else {})
    bundles = tune.PlacementGroupFactory([bundle] * placement.ranks)
    trainable = tune.with_resources(TrialWorker, bundles)
    return tune.Tuner(
        trainable,
        param_space=param_space(job, trials if searcher is None else (), placement.cpus, shared),
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            # trials that take turns are there from the start
            max_concurrent_trials=None if job.takes_turns else placement.slots,
            trial_name_creator=trial_id,
            trial_dirname_creator=trial_id,
            scheduler=job.scheduler,
            search_alg=searcher,
            num_samples=1 if searcher is None else searcher.total,
        ),
        run_config=tune.RunConfig(
            name=RECORDS,
            storage_path=str(job.runs / job.experiment.name),
            failure_config=tune.FailureConfig(max_failures=WORKER_DEATHS_SURVIVED),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[ProgressCallback(progress)],
            verbose=0,
        ),
    )


def param_space(
    job: Job, trials: Sequence[TrialSpec], threads: int, shared: str | None
) -> dict[str, Any]:
    """What `TrialWorker` is configured with, once for each of `trials` that no searcher brings."""
    common = {
        "store": astuple(job.store),
        "runs": str(job.runs),
        "threads": threads,
        "environment": for_workers(),
        "metric": job.judged_by,
        "shared": shared,
    }
    if not trials:
        return {"common": common}
    points, continues = job.plan.points, job.plan.continues
    configs = [
        trial_config(trial, points.get(trial.trial_id), continues.get(trial.trial_id, ()))
        for trial in trials
    ]
    return {"common": common, "choice": tune.grid_search(configs)}


@contextmanager
def sigterm_as_sigint() -> Iterator[None]:
    """While the block runs, SIGTERM (a machine that is taken away) stops as orderly as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
