"""A search in Optuna's terms: points there and back, asked for and told."""

from __future__ import annotations

import math
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from switokd.spec.experiment import Experiment
from switokd.spec.space import Interval, SearchPoint, is_whole

# the cell of the file's grid is one more dimension, beside keys that all have a dot or are words
CELL = "cell"


class OptunaStudy:
    """Optuna's memory of one search, and the sampler that chooses by it.

    Choices are told by their position: Optuna takes no lists, and holds 1 and True for one.
    """

    def __init__(self, experiment: Experiment, sampler: BaseSampler) -> None:
        search = experiment.search
        self._space = search.space
        cells = len(experiment.cells)
        self._distributions: dict[str, Any] = {CELL: CategoricalDistribution(tuple(range(cells)))}
        for key, dimension in search.space.items():
            if isinstance(dimension, tuple):
                positions = tuple(range(len(dimension)))
                self._distributions[key] = CategoricalDistribution(positions)
            elif is_whole(key):
                low, high = int(dimension.low), int(dimension.high)
                self._distributions[key] = IntDistribution(low, high, log=dimension.log)
            else:
                self._distributions[key] = FloatDistribution(
                    dimension.low, dimension.high, log=dimension.log
                )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            direction="maximize" if search.mode == "max" else "minimize", sampler=sampler
        )

    @property
    def trials(self) -> list[FrozenTrial]:
        """What Optuna has been told, in its own terms."""
        return self._study.trials

    def ask(self) -> tuple[Any, int, SearchPoint]:
        """A new point: Optuna's handle of it, its cell and its values."""
        asked = self._study.ask(self._distributions)
        point = {}
        for key, dimension in self._space.items():
            value = asked.params[key]
            if isinstance(dimension, Interval):
                point[key] = dimension.value(value, is_whole(key))
            else:
                point[key] = dimension[value]
        return asked, asked.params[CELL], point

    def enqueue(self, cell: int, point: SearchPoint) -> Any:
        """Take up a point that Optuna did not choose; its handle."""
        self._study.enqueue_trial(self._parameters(cell, point))
        return self._study.ask(self._distributions)

    def tell(self, asked: Any, value: float | None) -> None:
        """The result of a point; None where it failed, which counts as worse than any result."""
        if value is None or not math.isfinite(value):
            self._study.tell(asked, state=TrialState.PRUNED)
        else:
            self._study.tell(asked, value)

    def forget(self, asked: Any) -> None:
        """Give back a point that is not tried; it teaches nothing."""
        self._study.tell(asked, state=TrialState.FAIL)

    def tell_past(self, cell: int, point: SearchPoint, value: float) -> None:
        """The result of a point of an earlier call."""
        self._study.add_trial(
            create_trial(
                params=self._parameters(cell, point),
                distributions=self._distributions,
                value=value,
            )
        )

    def _parameters(self, cell: int, point: SearchPoint) -> dict[str, Any]:
        parameters: dict[str, Any] = {CELL: cell}
        for key, dimension in self._space.items():
            value = point[key]
            parameters[key] = dimension.index(value) if isinstance(dimension, tuple) else value
        return parameters
