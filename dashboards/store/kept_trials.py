"""A store's trials, kept between pages: reading a thousand from a server takes seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pandas as pd

# when they are read anew, behind the page that is shown; and when a page waits for that
FRESH_SECONDS = 60.0
USABLE_SECONDS = 300.0

Reading = tuple[pd.DataFrame, float]


class KeptTrials:
    """What `read` gave, at most `USABLE_SECONDS` old, and when it was asked (Unix time).

    Raises what `read` raises, a background reading's at the next call.
    """

    def __init__(self, read: Callable[[], pd.DataFrame]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="trials")
        self._kept: Reading | None = None
        self._reading: Future[Reading] | None = None

    def get(self) -> Reading:
        with self._lock:
            age = time.time() - self._kept[1] if self._kept else float("inf")
            if self._reading is None and age > FRESH_SECONDS:
                self._reading = self._reader.submit(self._read_now)
            if self._reading and (age > USABLE_SECONDS or self._reading.done()):
                reading, self._reading = self._reading, None
                self._kept = reading.result()
            assert self._kept is not None, "an infinite age waits for the reading"
            return self._kept

    def forget(self) -> None:
        """The next call reads anew."""
        with self._lock:
            self._kept = self._reading = None

    def _read_now(self) -> Reading:
        asked = time.time()
        return self._read(), asked


def with_news(kept: pd.DataFrame, unfinished: pd.DataFrame) -> pd.DataFrame:
    """The kept trials as they stand now, given all that are not finished now.

    A trial that was running and is not among these has finished.
    """
    others = kept[~kept["run_id"].isin(unfinished["run_id"])]
    others = others.assign(status=others["status"].replace("RUNNING", "FINISHED"))
    parts = [part for part in (others, unfinished) if len(part)] or [kept]
    return pd.concat(parts, ignore_index=True)
