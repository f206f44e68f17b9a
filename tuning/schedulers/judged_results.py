"""What a scheduler judges: the results that workers send it, and those of earlier calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

# the results that a worker sends to a scheduler: an epoch, and the search's metric after it
EPOCH, OBJECTIVE = "epoch", "objective"


class PastResult(NamedTuple):
    """A trial's value after an epoch, by the trial's id."""

    trial_id: str
    epoch: int
    value: float


# of finished and of unfinished trials, in the order in which they came
PastResults = Callable[[], Sequence[PastResult]]
