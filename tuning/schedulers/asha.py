"""Asynchronous successive halving: at each rung of epochs only the best share goes on.

Li et al., "A System for Massively Parallel Hyperparameter Tuning" (2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from switokd.spec.experiment import Experiment
from tuning.progress import SweepProgress
from tuning.schedulers.judged_results import EPOCH, OBJECTIVE, PastResults

if TYPE_CHECKING:
    from tuning.schedulers.graceful_stop import GracefulStop


def build(experiment: Experiment, progress: SweepProgress, past: PastResults) -> GracefulStop:
    """ASHA over the epochs of the experiment's longest recipe."""
    from ray.tune.schedulers import ASHAScheduler

    from tuning.schedulers.graceful_stop import GracefulStop

    search = experiment.search
    scheduler = ASHAScheduler(
        time_attr=EPOCH,
        metric=OBJECTIVE,
        mode=search.mode,
        max_t=max(recipe.epochs for recipe in experiment.recipe),
        grace_period=search.grace_epochs,
        reduction_factor=search.reduction_factor,
    )
    return GracefulStop("asha", scheduler, past())
