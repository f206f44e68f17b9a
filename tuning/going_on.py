"""What a sweep does when its Ray has died: it goes on by itself, or ends and says how to."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from os import _exit
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from switokd.tracking.retry import TrackingError
from switokd.tracking.store import TrackedExperiment
from tuning.progress import SweepProgress
from tuning.tune_internals import kill_own_ray
from tuning.upkeep import close_abandoned, end_sweep

# how often one command has begun anew; what kills Ray each time must not be tried for ever
RESTARTS = "SWITOKD_RAY_RESTARTS"
MOST_RESTARTS = 3
FAILED, INTERRUPTED = 1, 130


class LostRay:
    """Told which process of Ray's has died; ends this one, or makes it a new `switokd`.

    `arguments`: of the `switokd` that goes on, None where this process is none.
    """

    def __init__(
        self,
        store: TrackedExperiment,
        runs: Path,
        experiment: str,
        arguments: Sequence[str] | None,
        console: Console,
        progress: SweepProgress,
    ) -> None:
        self._store, self._runs, self._experiment = store, runs, experiment
        self._arguments = arguments
        self._console, self._progress = console, progress

    def __call__(self, what: str, interrupted: bool) -> NoReturn:
        self._progress.__exit__(None, None, None)
        address = os.environ.get("RAY_ADDRESS")
        begun = int(os.environ.get(RESTARTS, "0"))
        if address is None:
            # its workers end with it, and let go of their trials
            kill_own_ray()
        lost = f"Ray's {what} has died"
        if interrupted:
            self._end("interrupted", INTERRUPTED)
        if self._arguments is not None and address is None and begun < MOST_RESTARTS:
            self._say(
                f"{lost}: a new Ray is started, the trials go on from their checkpoints "
                f"({begun + 1} of {MOST_RESTARTS} times)"
            )
            begin_anew(self._arguments, {RESTARTS: str(begun + 1)})
        again = shlex.join(["switokd", *self._arguments]) if self._arguments else "the same sweep"
        where = f" (the cluster {address})" if address else ""
        self._end(
            f"{lost}{where}: the trials are KILLED, with their checkpoints; this goes on from "
            f"them: {again}",
            FAILED,
        )

    def _end(self, message: str, status: int) -> NoReturn:
        self._close()
        print(f"switokd: {message}", file=sys.stderr, flush=True)
        # Ray may hold the main thread for ever
        _exit(status)

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def _close(self) -> None:
        try:
            close_abandoned(self._store, self._runs, self._experiment, ())
            end_sweep(self._store, "KILLED")
        except TrackingError as error:
            self._say(f"{error}; runs left open are closed by the next call")


def begin_anew(arguments: Sequence[str], environment: dict[str, str]) -> NoReturn:
    """Become a new `switokd` with these arguments, under the same process id."""
    own = len(sys.argv) - 1
    program = sys.orig_argv[1 : len(sys.orig_argv) - own]
    sys.stdout.flush()
    sys.stderr.flush()
    # what the new one catches and masks is its own business
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    os.execve(
        sys.executable,
        [sys.executable, *program, *arguments],
        {**os.environ, **environment},
    )
