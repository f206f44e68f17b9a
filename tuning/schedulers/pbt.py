"""Population-based training: members that are behind go on from better ones' networks.

Jaderberg et al., "Population Based Training of Neural Networks" (2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from switokd.spec.experiment import Experiment
from tuning.progress import SweepProgress
from tuning.schedulers.judged_results import PastResults

if TYPE_CHECKING:
    from tuning.schedulers.population import Population


def build(experiment: Experiment, progress: SweepProgress, past: PastResults) -> Population:
    """The population of the experiment's points."""
    from tuning.schedulers.population import Population

    return Population(experiment, progress)
