"""What ends a trial besides its training, and how it is told."""

from __future__ import annotations

import traceback

from switokd.training.timeline import DivergedError
from switokd.validation import SpecError


class RankFailedError(Exception):
    """Another rank could not go on; its reason is the trial's."""


class RankLostError(Exception):
    """Another rank is gone, for no reason of the trial's: it goes on from its last checkpoint."""


def failure_reason(error: BaseException) -> str:
    """What a user can mend or expect in its own words, anything else with its traceback."""
    if isinstance(error, SpecError | DivergedError | OSError | RankFailedError | RankLostError):
        return str(error)
    return "".join(traceback.format_exception(error))
