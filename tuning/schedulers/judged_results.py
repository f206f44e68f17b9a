"""What a scheduler judges: the results that workers send it, and those of earlier calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

# the results that a worker sends to a scheduler: an epoch, and the search's metric after it
EPOCH, OBJECTIVE = "epoch", "objective"

# a trial's (epoch, metric) pairs
History = Sequence[tuple[int, float]]
PastTrials = Callable[[], Sequence[History]]
