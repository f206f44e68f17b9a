"""A sweep of 10,000 trials on 1,000 slots, simulated: what the driver takes a trial.

Tune's own controller, our queue, our table and our callbacks run as in a sweep. In the place of
Ray's actors stands one object that answers for all: each trial begins at once, reports a few times
and ends. Steps take no time, so that all the time there is is the driver's.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SIZES = (1_000, 3_000, 10_000)
SLOTS = 1_000
REPORTS = 4


class Handle:
    """As that of a worker, of which Tune asks what it has of its own of every result: nothing."""

    def __getattr__(self, method: str) -> Handle:
        return self

    def remote(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {}


class SimulatedActors:
    """As `RayActorManager`, as far as Tune's controller uses it, for workers that take no time."""

    slots = SLOTS

    def __init__(self, resource_manager: Any) -> None:
        self._waiting: deque[tuple[Any, Any]] = deque()
        self._events: deque[Callable[[], None]] = deque()
        self._live_actors_to_ray_actors_resources: dict[Any, tuple[Any, Any]] = {}
        self._reports: dict[Any, int] = {}

    def add_actor(
        self, cls: Any, kwargs: Any, resource_request: Any, *, on_start: Any, on_stop: Any, **_: Any
    ) -> Any:
        from ray.air.execution._internal.tracked_actor import TrackedActor

        actor = TrackedActor(time.monotonic_ns(), on_start=on_start, on_stop=on_stop)
        self._waiting.append((actor, resource_request))
        self._start_waiting()
        return actor

    def _start_waiting(self) -> None:
        while self._waiting and len(self._live_actors_to_ray_actors_resources) < self.slots:
            actor, wanted = self._waiting.popleft()
            self._live_actors_to_ray_actors_resources[actor] = (Handle(), wanted)
            self._events.append(lambda actor=actor: actor._on_start(actor))

    def schedule_actor_task(
        self, tracked_actor: Any, method_name: str, *_: Any, on_result: Any = None, **__: Any
    ) -> None:
        answer = self._answer(tracked_actor, method_name)
        if on_result is not None:
            self._events.append(lambda: on_result(tracked_actor, answer))

    def _answer(self, actor: Any, method: str) -> Any:
        if method != "train":
            # a new trial, by its reset
            self._reports[actor] = 0
            return True
        done = self._reports[actor] = self._reports.get(actor, 0) + 1
        return {
            **{"done": done == REPORTS, "training_iteration": done, "time_total_s": 2.0 * done},
            **{"epoch": done, "epochs": REPORTS, "progress": done / REPORTS, "notices": []},
            **{"train_seconds": 2.0 * done, "val_top1": 90.0, "gap": 0.2, "expert": 0.1},
        }

    def remove_actor(self, tracked_actor: Any, **_: Any) -> bool:
        there = self._live_actors_to_ray_actors_resources.pop(tracked_actor, None) is not None
        if there and tracked_actor._on_stop is not None:
            self._events.append(lambda: tracked_actor._on_stop(tracked_actor))
        self._start_waiting()
        return there

    def next(self, timeout: float | None = None) -> bool:
        if not self._events:
            return False
        self._events.popleft()()
        return True

    def is_actor_started(self, tracked_actor: Any) -> bool:
        return tracked_actor in self._live_actors_to_ray_actors_resources

    def is_actor_failed(self, tracked_actor: Any) -> bool:
        return False

    def clear_actor_task_futures(self, tracked_actor: Any) -> None: ...
    def cleanup(self) -> None: ...

    @property
    def num_live_actors(self) -> int:
        return len(self._live_actors_to_ray_actors_resources)

    @property
    def num_pending_actors(self) -> int:
        return len(self._waiting)

    @property
    def num_total_actors(self) -> int:
        return self.num_live_actors + self.num_pending_actors

    @property
    def num_actor_tasks(self) -> int:
        return len(self._events)

    def get_live_actors_resources(self) -> dict[str, float]:
        return {"CPU": float(self.num_live_actors)}


def simulate(trials: int, terminal: bool, taught: bool) -> dict[str, float]:
    """Run so many trials; seconds of their planning and of the driver, and its MiB."""
    from tuning.workers import ray_environment

    # Ray reads it when it is first imported
    ray_environment.prepare()
    from ray.tune.execution import tune_controller

    from switokd.spec.experiment import Experiment
    from switokd.tracking.store import TrackedExperiment
    from tests.tuning.workplace import small_experiment
    from tuning.placement import Placement
    from tuning.plan import Plan
    from tuning.progress import SweepProgress
    from tuning.schedulers import SCHEDULERS
    from tuning.workers.cluster import ray_session
    from tuning.workers.scheduling import Job, run_trials

    tune_controller.RayActorManager = SimulatedActors
    thresholds = [round(number / 500, 4) for number in range(100)]
    methods: list[Any] = [{"switokd": {"threshold": thresholds}}]
    seeds = trials // 100
    if taught:
        # a teacher's trial for each seed, which ten students wait for
        alphas = [round(number / 10, 1) for number in range(10)]
        methods, seeds = [{"kd": {"alpha": alphas}}], trials // 11
    started = time.perf_counter()
    experiment = Experiment.model_validate(
        small_experiment(name="scale", methods=methods, seeds=list(range(seeds)))
    )
    plan = Plan(experiment.trials, {}, {}, 0)
    missing = plan.missing
    expanded = time.perf_counter() - started
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, height=50)
    with tempfile.TemporaryDirectory() as folder, ray_session():
        store = TrackedExperiment("sqlite://", "1", "2")
        with SweepProgress(missing, console, plan.to_train, plan.points) as progress:
            scheduler = SCHEDULERS.load("none")(experiment, progress, list)
            job = Job(experiment, plan, store, Path(folder), scheduler)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            started = time.perf_counter()
            run_trials(job, missing, Placement(1, 0, SLOTS), progress)
            seconds = time.perf_counter() - started
        finished = progress.standing()["finished"]
    assert finished == len(missing), progress.standing()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "trials": finished,
        "expand_seconds": expanded,
        "seconds": seconds,
        "mib_before": before / 1024,
        "mib": after / 1024,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench_scale", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--one", type=int, help="simulate so many in this process, print JSON")
    parser.add_argument("--terminal", action="store_true", help="with the live table")
    parser.add_argument("--taught", action="store_true", help="ten students wait for each teacher")
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(simulate(options.one, options.terminal, options.taught)))
        return
    table = Table("trials", "expanded, s", "driver, s", "ms a trial", "MiB before", "at most")
    for size in options.sizes:
        call = [sys.executable, "-m", "tests.benchmarks.bench_scale", "--one", str(size)]
        call += [f"--{name}" for name in ("terminal", "taught") if getattr(options, name)]
        answer = subprocess.run(call, capture_output=True, text=True)
        if answer.returncode:
            raise SystemExit(answer.stderr[-3000:])
        found = json.loads(answer.stdout.splitlines()[-1])
        table.add_row(
            f"{found['trials']:,.0f}",
            f"{found['expand_seconds']:.1f}",
            f"{found['seconds']:.1f}",
            f"{1000 * found['seconds'] / found['trials']:.1f}",
            f"{found['mib_before']:.0f}",
            f"{found['mib']:.0f}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
