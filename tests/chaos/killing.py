"""A seeded hand that kills the processes of a running sweep, and counts what it has killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import psutil

from tests.forks.command import SWITOKD
from tests.forks.sitecustomize import SERVER
from tests.tuning.mlflow_server import Server
from tests.tuning.workplace import Workplace

# of a process that Ray starts, by its command
RAY_PROCESSES = {"raylet": "raylet", "gcs": "gcs_server"}
WORKER = "ray::ResourceTrainable"
# a sweep trains within so many seconds of its start, or later on a busy machine
FIRST_KILL_SECONDS, LAST_KILL_SECONDS = 3.0, 28.0
SERVER_AWAY_SECONDS = 4.0
LOOK_SECONDS = 0.1


class Killer:
    """Kills by SIGKILL: the driver, all of its processes, a worker, Ray's own, or the server."""

    def __init__(self, workplace: Workplace, seed: int, server: Server | None) -> None:
        self._workplace = workplace
        self._server = server
        self._random = random.Random(seed)
        self.killed: Counter[str] = Counter()
        self._log = workplace.folder / "output.txt"

    def start(self) -> subprocess.Popen[bytes]:
        """The sweep, in a process group of its own; what it prints goes to a file."""
        # as a user's: all that Ray starts is below it
        environment = {k: v for k, v in self._workplace.environment.items() if k != SERVER}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*SWITOKD, "sweep", self._workplace.file.name],
                cwd=self._workplace.folder,
                env=environment,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def disturb(self, kills: int, more: Callable[[], None]) -> int:
        """Start the sweep again and again until so many processes have been killed.

        `more` gives it more to train where it has come to its end. How often it was started.
        """
        starts = 0
        while self.killed.total() < kills:
            sweep, starts = self.start(), starts + 1
            while sweep.poll() is None and self.killed.total() < kills:
                pause = self._random.uniform(FIRST_KILL_SECONDS, LAST_KILL_SECONDS)
                if not _ends_within(sweep, pause):
                    self._kill_one(sweep)
            if sweep.poll() is None:
                _kill_group(sweep.pid)
            if sweep.wait() == 0:
                more()
            print(f"{self.killed.total()} killed, {starts} starts", file=sys.stderr, flush=True)
        return starts

    def _kill_one(self, sweep: subprocess.Popen[bytes]) -> None:
        kinds: dict[str, list[int]] = {"driver": [sweep.pid], "everything": [sweep.pid]}
        below = descendants(sweep.pid)
        for kind, command in {**RAY_PROCESSES, "worker": WORKER}.items():
            found = [pid for pid, name in below.items() if name.startswith(command[:15])]
            if found:
                kinds[kind] = found
        if self._server is not None:
            kinds["server"] = []
        # what keeps a sweep going is what is killed most: a worker as often as all others
        kind = self._random.choice([*kinds, *(["worker"] * 2 if "worker" in kinds else [])])
        if kind == "server":
            self._restart_server()
        elif kind == "everything":
            _kill_group(sweep.pid)
            for pid in below:
                _kill(pid)
        else:
            _kill(self._random.choice(kinds[kind]))
        self.killed[kind] += 1

    def _restart_server(self) -> None:
        assert self._server is not None
        assert self._server.process is not None
        os.killpg(self._server.process.pid, signal.SIGKILL)
        self._server.process.wait()
        time.sleep(self._random.uniform(0, SERVER_AWAY_SECONDS))
        self._server.start()


def descendants(ancestor: int) -> dict[int, str]:
    """The commands of all living processes below one, by their id."""
    found = {}
    for process in psutil.Process(ancestor).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process.name()
    return found


def _ends_within(sweep: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        sweep.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
