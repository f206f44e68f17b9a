"""No scheduler: each trial is trained to its last epoch, in the order of the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from switokd.spec.experiment import Experiment
from tuning.progress import SweepProgress
from tuning.schedulers.judged_results import PastResults

if TYPE_CHECKING:
    from ray.tune.schedulers import FIFOScheduler


def build(experiment: Experiment, progress: SweepProgress, past: PastResults) -> FIFOScheduler:
    """First in, first out."""
    from ray.tune.schedulers import FIFOScheduler

    return FIFOScheduler()
