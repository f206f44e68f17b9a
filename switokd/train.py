"""Train one trial in this process: `switokd.train(trial)`, or `switokd.train.run(trial)`.

A sweep's workers run the same session; with Ray and MLflow or without either.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from switokd.session.trial_session import TrialResult, open_session
from switokd.spec.trial import TrialSpec
from switokd.training.trainer import EpochReport

if TYPE_CHECKING:
    from switokd.tracking.tracker import TrialTracker


def run(
    trial: TrialSpec,
    *,
    runs: Path | str = "runs",
    tracker: TrialTracker | None = None,
    threads: int | None = None,
    after_epoch: Callable[[EpochReport], None] | None = None,
) -> TrialResult:
    """Train one trial to its end in this process, from its last checkpoint if there is one.

    What it leaves lies under `runs`, by experiment and trial id. `tracker` sends it to MLflow;
    without one nothing is tracked. `threads`: of torch, on the CPU; default all cores, or those
    that the checkpoint was made with; of a trial over several processes, which are started on this
    machine, each has so many. Raises DivergedError and DataError, RankFailedError and RankLostError
    where another process could not go on.
    """
    with open_session(trial, runs=Path(runs), tracker=tracker, threads=threads) as session:
        for report in session.epochs():
            if after_epoch is not None:
                after_epoch(report)
        return session.finish()


class _CallableModule(ModuleType):
    """So that `switokd.train` is both what users call and where they import `run` from."""

    def __call__(self, trial: TrialSpec, **options: Any) -> TrialResult:
        return run(trial, **options)


sys.modules[__name__].__class__ = _CallableModule
