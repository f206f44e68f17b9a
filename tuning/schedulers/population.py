"""Tune's population-based training over trials that have their own checkpoints and runs.

Tune decides who takes over from whom, and draws the changed settings. The exchange itself is the
worker's: Tune would have the trial take on the other's identity with its configuration.
"""

from __future__ import annotations

import json
import math
import random
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining, TrialScheduler

from switokd.spec.experiment import Experiment
from switokd.spec.space import Interval, SearchPoint
from tuning.progress import SweepProgress
from tuning.schedulers.stopping import OBJECTIVE, TIME, tell_worker


class Population(PopulationBasedTraining):
    """The members are the trials of a random search; each keeps its run, its id and its epochs."""

    def __init__(self, experiment: Experiment, progress: SweepProgress) -> None:
        search = experiment.search
        (self._cell,) = experiment.cells
        self._space = {k: d for k, d in search.space.items() if isinstance(d, Interval)}
        self._progress = progress
        self._random = random.Random(search.seed)
        self._scores: dict[int, dict[Trial, float]] = {}
        self._epoch = 0
        domains = {
            key: (tune.loguniform if interval.log else tune.uniform)(interval.low, interval.high)
            for key, interval in self._space.items()
        }
        super().__init__(
            time_attr=TIME,
            metric=OBJECTIVE,
            mode=search.mode,
            perturbation_interval=search.perturbation_epochs,
            hyperparam_mutations={"choice": {"point": domains}},
            log_config=False,
            require_attrs=False,
        )

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if OBJECTIVE not in result:
            return str(TrialScheduler.CONTINUE)
        trial.config["choice"]["point"] = json.loads(result["point"])
        self._epoch = result[TIME]
        scores = self._scores.setdefault(self._epoch, {})
        scores[trial] = self._metric_op * result[OBJECTIVE]
        verdict = str(super().on_trial_result(tune_controller, trial, result))
        if verdict == TrialScheduler.PAUSE:
            tell_worker(trial, "set_aside")
            self._progress.set_aside(trial.config["choice"]["trial_id"])
        return verdict

    def _quantiles(self) -> tuple[list[Trial], list[Trial]]:
        """The worst and the best members, by what each had after the epoch that has just ended.

        Tune would compare the latest values: of members that take turns, the one that has just
        trained would hardly ever be behind.
        """
        scores = self._scores[self._epoch]
        ranked = sorted(scores, key=lambda trial: scores[trial])
        count = min(math.ceil(len(ranked) * self._quantile_fraction), len(ranked) // 2)
        return ranked[:count], ranked[len(ranked) - count :]

    def _checkpoint_or_exploit(
        self,
        trial: Trial,
        tune_controller: Any,
        upper_quantile: list[Trial],
        lower_quantile: list[Trial],
    ) -> None:
        super()._checkpoint_or_exploit(trial, tune_controller, upper_quantile, [])
        if trial in lower_quantile:
            # whether the donor has a checkpoint of ours, the worker will see
            self._exploit(tune_controller, trial, self._random.choice(upper_quantile))

    def _exploit(self, tune_controller: Any, trial: Trial, trial_to_clone: Trial) -> None:
        drawn, _ = self._get_new_config(trial, trial_to_clone)
        point = self._within(drawn["choice"]["point"])
        trial.config["choice"]["point"] = point
        donor = trial_to_clone.config["choice"]["trial_id"]
        tell_worker(trial, "take_over", donor, self._cell.at(point).model_dump_json(), point)
        self._num_perturbations += 1

    def _within(self, drawn: SearchPoint) -> SearchPoint:
        # Tune multiplies by 0.8 or 1.2, whatever the limits
        return {key: interval.value(drawn[key]) for key, interval in self._space.items()}
