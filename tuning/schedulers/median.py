"""The median rule: a trial ends whose best is below the median of the others' running means.

Golovin et al., "Google Vizier: A Service for Black-Box Optimization" (2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from switokd.spec.experiment import Experiment
from tuning.progress import SweepProgress
from tuning.schedulers.judged_results import EPOCH, OBJECTIVE, PastResults

if TYPE_CHECKING:
    from tuning.schedulers.graceful_stop import GracefulStop


def build(experiment: Experiment, progress: SweepProgress, past: PastResults) -> GracefulStop:
    """Tune's rule, which never pauses a trial."""
    from ray.tune.schedulers import MedianStoppingRule

    from tuning.schedulers.graceful_stop import GracefulStop

    scheduler = MedianStoppingRule(
        time_attr=EPOCH,
        metric=OBJECTIVE,
        mode=experiment.search.mode,
        grace_period=experiment.search.grace_epochs,
        # it would pause trials to get others' results sooner; a slice without end forbids that
        min_time_slice=float("inf"),
    )
    return GracefulStop("median", scheduler, past())
