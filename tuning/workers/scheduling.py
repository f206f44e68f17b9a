"""Ray Tune, told what it needs to know: start it, run trials on reused actors, stop it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from switokd.spec.trial import TrialSpec
from switokd.tracking.store import TrackedExperiment
from switokd.validation import SpecError
from tuning.placement import Placement
from tuning.plan import Plan
from tuning.progress import SweepProgress
from tuning.workers.ray_environment import store_access
from tuning.workers.trial_worker import TrialWorker, describe_choice

if TYPE_CHECKING:
    # it imports Optuna, which most sweeps do without
    from tuning.search.point_search import PointSearch

# a machine that is taken away costs one try; a trial that kills its worker each time must end
WORKER_DEATHS_SURVIVED = 5
# what a worker needs of the driver's environment, also on another machine
WORKER_ENVIRONMENT = ("SWITOKD_DATA",)


@dataclass(frozen=True)
class Machines:
    """What there is to schedule on, all nodes together."""

    cpus: int
    gpus: float
    nodes: int


@dataclass(frozen=True)
class Work:
    """What the trials of a sweep have in common: where they leave things, and who guides them."""

    experiment: str
    store: TrackedExperiment
    runs: Path
    metric: str
    plan: Plan
    scheduler: TrialScheduler | None = None
    searcher: PointSearch | None = None
    takes_turns: bool = False


@contextmanager
def ray_session() -> Iterator[Machines]:
    """A Ray to schedule on: the cluster of RAY_ADDRESS, else one of our own.

    Raises SpecError where the cluster does not answer.
    """
    settings: dict[str, Any] = {"include_dashboard": False}
    if os.environ.get("RAY_ADDRESS"):
        # a cluster has its dashboard or not; its workers do not have our environment
        settings = {"runtime_env": store_access()}
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **settings)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        where = os.environ.get("RAY_ADDRESS") or "this machine"
        raise SpecError(f"no Ray at {where} (RAY_ADDRESS): {error}") from None
    try:
        resources = ray.cluster_resources()
        alive = [node for node in ray.nodes() if node["Alive"]]
        yield Machines(
            int(resources.get("CPU", 1)), float(resources.get("GPU", 0)), max(1, len(alive))
        )
    finally:
        ray.shutdown()


def run_trials(
    work: Work, trials: list[TrialSpec], placement: Placement, progress: SweepProgress
) -> None:
    """Train `trials`, as many at once as there are slots; returns when all have ended.

    A searcher of the work brings the trials itself. Raises KeyboardInterrupt after Tune has stopped
    the trials where the user interrupts.
    """
    folder = work.runs / work.experiment / "ray"
    common = {
        "store": astuple(work.store),
        "runs": str(work.runs),
        "threads": placement.cpus,
        "environment": {k: os.environ[k] for k in WORKER_ENVIRONMENT if k in os.environ},
        "metric": None if work.scheduler is None else work.metric,
    }
    space: dict[str, Any] = {"common": common}
    if work.searcher is None:
        space["choice"] = tune.grid_search(
            [
                describe_choice(
                    trial,
                    work.plan.points.get(trial.trial_id),
                    work.plan.continues.get(trial.trial_id, ()),
                )
                for trial in trials
            ]
        )
    trainable = tune.with_resources(TrialWorker, {"cpu": placement.cpus, "gpu": placement.gpus})
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            reuse_actors=True,
            # a population takes turns: all of it is there from the start
            max_concurrent_trials=None if work.takes_turns else placement.slots,
            trial_name_creator=trial_id,
            trial_dirname_creator=trial_id,
            scheduler=work.scheduler,
            search_alg=work.searcher,
            num_samples=1 if work.searcher is None else work.searcher.total,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=tune.FailureConfig(max_failures=WORKER_DEATHS_SURVIVED),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[progress],
            verbose=0,
        ),
    )
    # a dead worker is told of by the progress table, in one line
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        with terminated_like_interrupted():
            tuner.fit()
    finally:
        # Tune's own records: we find everything by the trials' ids
        shutil.rmtree(folder, ignore_errors=True)
    if progress.unfinished or not (work.searcher is None or work.searcher.exhausted):
        # Tune keeps the first interrupt to itself: it stops the trials and returns
        raise KeyboardInterrupt


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """While the block runs, SIGTERM (a machine that is taken away) stops as orderly as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def trial_id(trial: Trial) -> str:
    """Tune's name for a trial is its content id."""
    return str(trial.config["choice"]["trial_id"])
