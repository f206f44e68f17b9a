"""Points on their way to a store that may be slow, or away: kept until it has confirmed them.

Points are made by training and wait; a checkpoint keeps them, and only then releases them to be
sent. What a crash makes training repeat was therefore never sent, and what is sent again carries
the time at which it was made, so that the store keeps it once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0


class Point(NamedTuple):
    """One value of one series; `time_ms` is when it was made, and stays when it is sent again."""

    name: str
    value: float
    step: int
    time_ms: int


class RefusedError(Exception):
    """The store has answered, and would give the same answer again."""


class Outbox:
    """Points in the order in which they were made, sent by a thread of its own.

    `send` delivers a batch of at most `batch_size` points, none at first: then it makes ready what
    the store needs. Whatever it raises is tried again, with longer and longer pauses, until it
    works; RefusedError ends the sending.
    """

    def __init__(self, send: Callable[[list[Point]], None], batch_size: int, store: str) -> None:
        """`store` names the receiver in the log."""
        self._send = send
        self._batch_size = batch_size
        self._store = store
        self._points: list[Point] = []
        self._released = 0
        self._ready = False
        self._closing = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        name = f"{threading.current_thread().name} outbox"
        self._thread = threading.Thread(target=self._send_forever, name=name, daemon=True)

    def start(self) -> None:
        """Begin to send; before that, points only wait."""
        self._thread.start()

    @property
    def closed(self) -> bool:
        return self._closing

    def add(self, new: Iterable[Point]) -> None:
        """Take points that are not in a checkpoint yet: they wait."""
        with self._changed:
            self._points.extend(new)

    def waiting(self) -> list[Point]:
        """All points that the store has not confirmed; a checkpoint keeps them."""
        with self._changed:
            return list(self._points)

    def release(self) -> None:
        """All points so far are in a checkpoint: send them."""
        with self._changed:
            self._released = len(self._points)
            self._changed.notify_all()

    def drain(self, deadline: float) -> None:
        """Wait until all released points are confirmed.

        Raises RefusedError at once, TimeoutError where `deadline` (of time.monotonic()) passes.
        """

        def sent_or_refused() -> bool:
            refused = isinstance(self._error, RefusedError)
            return refused or (self._ready and not self._released)

        with self._changed:
            in_time = self._changed.wait_for(sent_or_refused, max(0.0, deadline - time.monotonic()))
            if isinstance(self._error, RefusedError):
                raise self._error
            if not in_time:
                raise TimeoutError(str(self._error or "no answer"))

    def close(self) -> None:
        """Stop sending; what is left is in the checkpoint."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _send_forever(self) -> None:
        pause, told = 0.0, False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing, timeout=pause)
                self._changed.wait_for(
                    lambda: self._closing or self._released > 0 or not self._ready
                )
                if self._closing:
                    return
                batch = self._points[: min(self._released, self._batch_size)]
            try:
                self._send(batch)
            except Exception as error:
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                if isinstance(error, RefusedError):
                    log.warning("%s refuses the trial's points: %s", self._store, error)
                    return
                # one call that fails may be one that another process was in the way of
                if pause and not told:
                    told = True
                    log.warning("%s does not answer; points wait", self._store)
                pause = min(2 * pause or FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
                continue
            if told:
                log.warning("%s answers again", self._store)
            pause, told = 0.0, False
            with self._changed:
                del self._points[: len(batch)]
                self._released -= len(batch)
                self._ready = True
                self._error = None
                self._changed.notify_all()
