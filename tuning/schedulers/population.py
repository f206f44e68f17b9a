"""A population of trials that keep their own runs, checkpoints and epochs.

Tune decides who goes on from whom, and draws the changed settings. The exchange itself is the
worker's: Tune would have the trial take on the other's identity with its configuration.
"""

from __future__ import annotations

import json
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from switokd.spec.experiment import Experiment
from switokd.spec.space import Interval
from tuning.progress import SweepProgress
from tuning.schedulers.judged_results import EPOCH, OBJECTIVE
from tuning.tune_internals import PopulationScheduler, worker_of

# of the members that are compared: so many are behind, and so many are their donors
QUANTILE_FRACTION = 0.25


class Population(PopulationScheduler):
    """The members are the trials of a random search."""

    def __init__(self, experiment: Experiment, progress: SweepProgress) -> None:
        search = experiment.search
        (self._cell,) = experiment.cells
        self._space = {k: d for k, d in search.space.items() if isinstance(d, Interval)}
        self._progress = progress
        self._sign = 1.0 if search.mode == "max" else -1.0
        self._scores: dict[int, dict[Trial, float]] = {}
        self._epoch = 0
        domains = {
            key: (tune.loguniform if interval.log else tune.uniform)(interval.low, interval.high)
            for key, interval in self._space.items()
        }
        super().__init__(
            quantile_fraction=QUANTILE_FRACTION,
            seed=search.seed,
            time_attr=EPOCH,
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
        self._epoch = result[EPOCH]
        self._scores.setdefault(self._epoch, {})[trial] = self._sign * result[OBJECTIVE]
        verdict = str(super().on_trial_result(tune_controller, trial, result))
        if verdict == TrialScheduler.PAUSE:
            worker = worker_of(trial)
            if worker is not None:
                worker.pause.remote()
            self._progress.pause(trial.config["choice"]["trial_id"])
        return verdict

    def ranked(self) -> list[Trial]:
        """By what each had after the epoch that has just ended.

        Tune would compare the latest values: of members that take turns, the one that has just
        trained would hardly ever be behind.
        """
        scores = self._scores[self._epoch]
        return sorted(scores, key=lambda trial: scores[trial])

    def exchange(self, member: Trial, donor: Trial, config: dict[str, Any]) -> None:
        """Tell the member's worker, which will see whether the donor has a checkpoint."""
        drawn = config["choice"]["point"]
        # Tune multiplies by 0.8 or 1.2, whatever the limits
        point = {key: interval.value(drawn[key]) for key, interval in self._space.items()}
        member.config["choice"]["point"] = point
        worker = worker_of(member)
        if worker is not None:
            changed = self._cell.at(point).model_dump_json()
            worker.take_over.remote(donor.config["choice"]["trial_id"], changed, point)
