"""What a sweep must know of a scheduler; it imports Ray only when it is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler

    from switokd.spec.experiment import Experiment
    from tuning.progress import SweepProgress

# the results that a worker sends to a scheduler: an epoch, and the search's metric after it
EPOCH, OBJECTIVE = "epoch", "objective"

# a trial's (epoch, metric) pairs
History = Sequence[tuple[int, float]]
PastTrials = Callable[[], Sequence[History]]


@dataclass(frozen=True)
class SchedulerEntry:
    """A scheduler of `SCHEDULERS`.

    `build` makes Tune's scheduler for one sweep; its `PastTrials` reads, when called, what earlier
    calls have finished. `judges_epochs`: workers report the search's metric after each epoch.
    `takes_turns`: all trials begin and are paused in turn, instead of waiting for a free slot.
    `changes_settings`: a trial may end under other settings than it began with.
    """

    build: Callable[[Experiment, SweepProgress, PastTrials], TrialScheduler]
    judges_epochs: bool = True
    takes_turns: bool = False
    changes_settings: bool = False
