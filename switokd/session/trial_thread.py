"""A thread for all that one trial does, so that several trials train side by side in one process.

Graphs of small cohorts leave a GPU idle, and processes take turns on it: threads with a CUDA stream
each fill it. What is the process's alone is guarded by `switokd.training.exclusive`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from switokd.training.exclusive import GPU

Answer = TypeVar("Answer")

# torch hands out the same few streams in turn; those of ended threads are used again first, so that
# no two trials are on one
_idle: list[torch.cuda.Stream] = []


class TrialThread:
    """Does what it is asked, one thing after another; on a GPU, on a stream of its own."""

    def __init__(self, name: str) -> None:
        """`name`: of the thread; threads that a trial starts have names that begin with it."""
        self._stream: torch.cuda.Stream | None = None
        self._pool = ThreadPoolExecutor(1, name, initializer=self._take_stream)

    def do(self, work: Callable[..., Answer], *arguments: object) -> Answer:
        """The answer of `work`, which is waited for; raises what it raises."""

        def in_company() -> Answer:
            with GPU.working():
                return work(*arguments)

        return self._pool.submit(in_company).result()

    def close(self) -> None:
        """Wait for the work in progress, and end."""
        self._pool.shutdown()
        if self._stream is not None:
            self._stream.synchronize()
            _idle.append(self._stream)
            self._stream = None

    def _take_stream(self) -> None:
        if torch.cuda.is_available():
            try:
                self._stream = _idle.pop()
            except IndexError:
                self._stream = torch.cuda.Stream()
            torch.cuda.set_stream(self._stream)
