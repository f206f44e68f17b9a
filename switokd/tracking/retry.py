"""What a tracking store's answers mean: yes, no for good, or silence that may pass."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from switokd.tracking.outbox import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS
from switokd.validation import SpecError

T = TypeVar("T")

# MLflow's words for "no, and asking again will not help"; other errors may pass
FINAL_ANSWERS = frozenset(
    {
        *("INVALID_PARAMETER_VALUE", "INVALID_STATE"),
        *("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"),
    }
)


class TrackingError(SpecError):
    """The tracking store cannot be used; the message names it and says why."""


class SilentStoreError(TrackingError):
    """The tracking store does not answer now, but may later."""


def unusable(
    uri: str, error: Exception, kind: type[TrackingError] = TrackingError
) -> TrackingError:
    return kind(
        f"the tracking store {uri} cannot be used: {in_one_line(error)} "
        "(MLFLOW_TRACKING_URI names it; default sqlite:///runs/mlflow.db)"
    )


def in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


@contextlib.contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn whatever MLflow and its database raise into one TrackingError that names the store."""
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        raise unusable(uri, error) from None


def insist(action: Callable[[], T], uri: str, deadline: float) -> T:
    """Try until it works; TrackingError where the store says no, SilentStoreError at `deadline`."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return action()
        except Exception as error:
            if is_final(error):
                raise unusable(uri, error) from None
            if time.monotonic() + pause > deadline:
                raise unusable(uri, error, SilentStoreError) from None
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def is_final(error: Exception) -> bool:
    return getattr(error, "error_code", None) in FINAL_ANSWERS
