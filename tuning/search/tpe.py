"""Tree-structured Parzen estimators: points that are likelier among good results than among others.

Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (2011), as Optuna has them.
"""

from __future__ import annotations

from optuna.samplers import TPESampler

from switokd.spec.experiment import FIRST_POINTS, Experiment
from switokd.tracking.store import TrackedExperiment
from tuning.plan import Plan
from tuning.progress import SweepProgress
from tuning.search.optuna_study import OptunaStudy
from tuning.search.point_search import PointSearch


def build(
    experiment: Experiment, plan: Plan, store: TrackedExperiment, progress: SweepProgress
) -> PointSearch:
    """The search that goes on from the plan's finished trials."""
    study = tpe_study(experiment, len(plan.candidates))
    return PointSearch(experiment, plan, store, progress, study)


def tpe_study(experiment: Experiment, points_before: int) -> OptunaStudy:
    """Optuna's memory of the search, of which `points_before` points have been chosen before."""
    sampler = TPESampler(
        # a sampler of the same seed would begin with the same points once more
        seed=experiment.search.seed + points_before,
        n_startup_trials=FIRST_POINTS,
        constant_liar=True,
    )
    return OptunaStudy(experiment, sampler)
