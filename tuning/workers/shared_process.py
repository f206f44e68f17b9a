"""One process for all trials that share a GPU: each in a thread with a CUDA stream of its own.

Tune's workers stay a process each, which holds the share of the GPU and asks this one for the
steps. A trial that fails ends alone, but for an error after which the GPU no longer answers: trials
in the middle of a step then fail with it. Where the process itself dies, its trials' workers see
it, and Tune has them go on from their checkpoints in a new one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from switokd.session.trial_thread import TrialThread
from switokd.spec.trial import TrialSpec
from tuning.workers.trial_run import TrialRun

log = logging.getLogger(__name__)

# a worker asks for the next step at once; one that has not for so long has died
SILENCE_SECONDS = 30.0
MOST_CALLS_AT_ONCE = 256


class SharedProcess:
    """An actor: the trials of one GPU, by the worker that each belongs to."""

    def __init__(self, gpu: str | None) -> None:
        if gpu is not None:
            # read when this process first asks for a GPU
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        self._places: dict[str, Place] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._leave_the_dead, name="places", daemon=True).start()

    def ready(self) -> None:
        """Answer, unless the GPU has stopped answering this process."""
        self._end_if_broken()

    def step(self, worker: str, config: dict[str, Any]) -> dict[str, Any]:
        """A step of the worker's trial, which is the one of `config` from here on."""
        self._end_if_broken()
        with self._lock:
            place = self._places.get(worker)
            if place is None:
                place = self._places[worker] = Place(worker)
        return place.step(config)

    def assign(self, worker: str, config: dict[str, Any]) -> None:
        """Have the worker's run leave the trial that it has for another."""
        with self._lock:
            place = self._places.get(worker)
        if place is not None:
            place.assign(config)

    def tell(self, worker: str, method: str, *arguments: Any) -> None:
        """Call a method of the worker's run, where it has one."""
        with self._lock:
            place = self._places.get(worker)
        if place is not None:
            place.tell(method, *arguments)

    def leave(self, worker: str) -> None:
        """Stop the worker's trial, in order."""
        with self._lock:
            place = self._places.pop(worker, None)
        if place is not None:
            place.close()

    def _end_if_broken(self) -> None:
        with self._lock:
            broken = any(place.broken for place in self._places.values())
        if broken:
            # whoever shares the process can only go on in another one
            os.kill(os.getpid(), signal.SIGKILL)

    def _leave_the_dead(self) -> None:
        while True:
            time.sleep(SILENCE_SECONDS / 10)
            with self._lock:
                silent = [worker for worker, place in self._places.items() if place.silent]
            for worker in silent:
                try:
                    self.leave(worker)
                except Exception:
                    log.exception("the trial of a worker that has died was not left in order")


class Place:
    """A worker's trial in the process."""

    def __init__(self, worker: str) -> None:
        self._thread = TrialThread(f"trial of {worker}")
        self._run: TrialRun | None = None
        self._config: dict[str, Any] = {}
        self._asked = 0
        self._answered_at = time.monotonic()

    @property
    def silent(self) -> bool:
        """Whether nobody has asked for anything for long."""
        return not self._asked and time.monotonic() - self._answered_at > SILENCE_SECONDS

    @property
    def broken(self) -> bool:
        return self._run is not None and self._run.broken

    def step(self, config: dict[str, Any]) -> dict[str, Any]:
        with self._question():
            progress: dict[str, Any] = self._thread.do(self._step, config)
            return progress

    def assign(self, config: dict[str, Any]) -> None:
        with self._question():
            self._thread.do(self._take_up, config)

    def tell(self, method: str, *arguments: Any) -> None:
        with self._question():
            if self._run is not None:
                self._thread.do(getattr(self._run, method), *arguments)

    def close(self) -> None:
        try:
            self.tell("close")
        finally:
            self._thread.close()

    def _step(self, config: dict[str, Any]) -> dict[str, Any]:
        return self._take_up(config).step()

    def _take_up(self, config: dict[str, Any]) -> TrialRun:
        if self._run is None:
            self._run = TrialRun(config, alone=False)
        elif config != self._config:
            self._run.assign(config)
        self._config = config
        return self._run

    @contextmanager
    def _question(self) -> Iterator[None]:
        self._asked += 1
        try:
            yield
        finally:
            self._asked -= 1
            self._answered_at = time.monotonic()


class Keeper:
    """An actor of the sweep's driver: starts the shared processes, which end with it."""

    def __init__(self) -> None:
        self._processes: dict[tuple[str, str | None, bool], Any] = {}

    def process(self, node: str, gpu: str | None, deterministic: bool) -> Any:
        """The process of a GPU. Torch is deterministic in a whole process or not at all."""
        key = (node, gpu, deterministic)
        try:
            if key in self._processes:
                ray.get(self._processes[key].ready.remote())
                return self._processes[key]
        except RayActorError:
            # it has died; its trials come one by one to go on in another
            del self._processes[key]
        here = NodeAffinitySchedulingStrategy(node, soft=False)
        options: dict[str, Any] = {"num_cpus": 0, "max_concurrency": MOST_CALLS_AT_ONCE}
        actor = ray.remote(SharedProcess).options(scheduling_strategy=here, **options)
        self._processes[key] = actor.remote(gpu)
        return self._processes[key]


@contextmanager
def keeper(wanted: bool) -> Iterator[str | None]:
    """The name of a Keeper while the block runs; None where none is wanted."""
    if not wanted:
        yield None
        return
    name = f"switokd processes {os.urandom(4).hex()}"
    actor = ray.remote(Keeper).options(num_cpus=0, name=name).remote()
    try:
        yield name
    finally:
        ray.kill(actor)


class PlaceInSharedProcess:
    """A worker's side: what a `TrialRun` does, asked of the process of the worker's GPU."""

    def __init__(self, config: dict[str, Any]) -> None:
        context = ray.get_runtime_context()
        self._worker = context.get_actor_id()
        self._node = context.get_node_id()
        gpus = ray.get_gpu_ids()
        self._gpu = str(gpus[0]) if gpus else None
        self._process = self._find(config)
        self._config = config

    def _find(self, config: dict[str, Any]) -> Any:
        trial = TrialSpec.model_validate_json(config["choice"]["trial"])
        processes = ray.get_actor(config["common"]["shared"])
        deterministic = trial.recipe.deterministic
        return ray.get(processes.process.remote(self._node, self._gpu, deterministic))

    def assign(self, config: dict[str, Any]) -> None:
        process = self._find(config)
        if process == self._process:
            ray.get(process.assign.remote(self._worker, config))
        else:
            self.close()
            self._process = process
        self._config = config

    def step(self) -> dict[str, Any]:
        progress: dict[str, Any] = ray.get(self._process.step.remote(self._worker, self._config))
        return progress

    def stop_early(self, reason: str) -> None:
        self._tell("stop_early", reason)

    def take_over(self, donor: str, changed: str, values: dict[str, float]) -> None:
        self._tell("take_over", donor, changed, values)

    def pause(self) -> None:
        self._tell("pause")

    def save(self) -> None:
        self._tell("save")

    def close(self) -> None:
        # a process that has died holds no trial any more
        with contextlib.suppress(RayActorError):
            ray.get(self._process.leave.remote(self._worker))

    def _tell(self, method: str, *arguments: Any) -> None:
        ray.get(self._process.tell.remote(self._worker, method, *arguments))
