"""What a tracking store's answers mean: yes, no for good, or silence that may pass."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from switokd.tracking.address import StoreError
from switokd.tracking.outbox import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS

T = TypeVar("T")

# MLflow's words for "no, and asking again will not help"; other errors may pass
FINAL_ANSWERS = frozenset(
    {
        *("INVALID_PARAMETER_VALUE", "INVALID_STATE"),
        *("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"),
    }
)


class TrackingError(StoreError):
    """The tracking store cannot be used; the message names it and says why.

    `reason` is what the store said, `error_code` MLflow's word for it, where there was an answer.
    """

    reason: str | None = None
    error_code: str | None = None


class SilentStoreError(TrackingError):
    """The tracking store does not answer now, but may later."""


def unusable(
    uri: str,
    error: Exception,
    kind: type[TrackingError] = TrackingError,
    run_id: str | None = None,
) -> TrackingError:
    """What MLflow or its database raised as an error of ours, of the store or of one run in it."""
    reason = in_one_line(error)
    raised = kind(
        f"run {run_id!r} in {uri}: {reason}"
        if run_id is not None
        else f"the tracking store {uri} cannot be used: {reason} "
        "(MLFLOW_TRACKING_URI names it; default sqlite:///runs/mlflow.db)"
    )
    raised.reason, raised.error_code = reason, getattr(error, "error_code", None)
    return raised


def in_one_line(error: Exception) -> str:
    """The reason alone of an error that names its store already."""
    reason = error.reason if isinstance(error, TrackingError) else None
    text = " ".join((reason or str(error)).split())
    return plain_words(text)[:300]


def plain_words(text: str) -> str:
    """What a database said, without the name of its exception and the statement it was asked."""
    said = re.match(r"\(\w+\.\w*Error\) (.+?) \[SQL:", text)
    return said.group(1) if said else text


@contextlib.contextmanager
def tracking_errors(uri: str, run_id: str | None = None) -> Iterator[None]:
    """Turn whatever MLflow and its database raise into one TrackingError.

    It names the store, and the run where `run_id` says which one was asked for.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        raise unusable(uri, error, run_id=run_id) from None


def retry_until(deadline: float, action: Callable[[], T], uri: str) -> T:
    """Try until it works; TrackingError where the store says no, SilentStoreError at `deadline`.

    `deadline` is of time.monotonic().
    """
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
