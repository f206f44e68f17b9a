"""Ray Tune where its public interface ends: the one module that knows parts it may change.

Everything here rests on how Tune works inside, from attributes that its documentation does not name
to hooks that it calls on itself. `tests/tuning/test_tune_internals.py` fails where Ray has changed
one of them; `pyproject.toml` lets no Ray in that the test has not seen.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler

RAYLET_DIED = "Raylet is terminated."


def worker_of(trial: Trial) -> Any:
    """The handle of the actor that trains a trial, or None while it has none.

    A method called by `.remote(..)` runs before the next step that Tune asks of the actor.
    """
    return trial.temporary_state.ray_actor


def error_of(trial: Trial) -> Exception | None:
    """What ended a trial's last worker, or None; an exception of its own without Ray's account."""
    error: Exception | None = trial.get_pickled_error()
    return error.cause if isinstance(error, RayTaskError) else error


def silence_worker_deaths() -> None:
    """Keep Tune from logging a traceback for each worker that dies; callbacks are still told."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


def silence_raylet_death() -> None:
    """Keep Ray from printing the last lines of its node process's log when that has died.

    Whoever watches over it tells of that; what else the node process has to say is printed.
    """
    worker = ray._private.worker
    tell = worker.print_to_stdstream

    def tell_the_rest(data: dict[str, Any], *arguments: Any, **settings: Any) -> None:
        if not any(line.startswith(RAYLET_DIED) for line in data["lines"]):
            tell(data, *arguments, **settings)

    worker.print_to_stdstream = tell_the_rest


def kill_own_ray() -> None:
    """Kill the processes of a Ray that this process has started, whether they answer or not."""
    node = ray._private.worker._global_node
    if node is not None:
        node.kill_all_processes(check_alive=False)


@dataclass(frozen=True)
class KnownTrial:
    """A trial by its own id, as far as Tune's stopping schedulers look at one.

    Tune's id for the same trial is another one in each call.
    """

    trial_id: str


def replay(
    scheduler: TrialScheduler, results: Iterable[tuple[KnownTrial, dict[str, Any]]]
) -> set[str]:
    """Show a stopping scheduler past results in their order; the ids of trials that it stops.

    No controller: ASHA and the median rule ask it only to pause trials in favour of others.
    """
    seen: set[str] = set()
    stopped: set[str] = set()
    for trial, result in results:
        if trial.trial_id not in seen:
            seen.add(trial.trial_id)
            scheduler.on_trial_add(None, trial)
        if trial.trial_id not in stopped:
            verdict = scheduler.on_trial_result(None, trial, result)
            if verdict == TrialScheduler.STOP:
                stopped.add(trial.trial_id)
    return stopped


class PopulationScheduler(PopulationBasedTraining):
    """Population-based training that leaves the exchange itself to a subclass.

    Tune decides when members are compared, pauses them in turn, has a good member save and draws
    changed settings. Its own exchange would hand one member the other's identity with its
    configuration and checkpoint. A subclass defines `ranked` and `exchange`; `seed` is for the
    choice of donors, `settings` are Tune's.
    """

    def __init__(self, *, quantile_fraction: float, seed: int, **settings: Any) -> None:
        super().__init__(quantile_fraction=quantile_fraction, **settings)
        self._fraction = quantile_fraction
        self._donors = random.Random(seed)

    def ranked(self) -> list[Trial]:
        """The members to compare now, worst first."""
        raise NotImplementedError

    def exchange(self, member: Trial, donor: Trial, config: dict[str, Any]) -> None:
        """Let a member go on from a donor; `config` is the donor's, with changed settings."""
        raise NotImplementedError

    def _quantiles(self) -> tuple[list[Trial], list[Trial]]:
        ranked = self.ranked()
        count = min(math.ceil(len(ranked) * self._fraction), len(ranked) // 2)
        return ranked[:count], ranked[len(ranked) - count :]

    def _checkpoint_or_exploit(
        self,
        trial: Trial,
        tune_controller: Any,
        upper_quantile: list[Trial],
        lower_quantile: list[Trial],
    ) -> None:
        # nobody is behind as far as Tune's own exchange is concerned
        super()._checkpoint_or_exploit(trial, tune_controller, upper_quantile, [])
        if trial in lower_quantile:
            donor = self._donors.choice(upper_quantile)
            config, _ = self._get_new_config(trial, donor)
            self.exchange(trial, donor, config)
