"""Commands as processes of their own that begin where the imports are done.

`switokd` spends most of a short command's processor time on importing torch and MLflow. A server
imports them once and forks: what comes after is a process like any other, which can be killed.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

# none of Ray's: it reads its settings when it is imported
IMPORTED = ["torch", "torchvision", "mlflow.store.tracking.sqlalchemy_store", "pyarrow.parquet"]

# of Python: the command line
PROGRAM = ["-c", "from switokd.cli.main import main; main()"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(IMPORTED)


class Command:
    """A running `switokd`, of its own process group, like one in a shell's foreground.

    What it prints is read as from a `subprocess.Popen`.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.args = ["switokd", *arguments]
        reader, writer = os.pipe()
        begun, tell_begun = _context.Pipe(duplex=False)
        inherited = (DupFd(writer), tell_begun)
        self._process = _context.Process(
            target=_become, args=(list(arguments), str(folder), dict(environment), *inherited)
        )
        self._process.start()
        os.close(writer)
        tell_begun.close()
        self.stdout = os.fdopen(reader, encoding="utf-8")
        self.stderr = None
        with begun:
            # its group is there
            begun.recv()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """What it prints until it ends."""
        parts: list[str] = []
        reader = threading.Thread(target=lambda: parts.append(self.stdout.read()), daemon=True)
        reader.start()
        self.wait(timeout)
        # a child of its own may hold the pipe a little longer
        reader.join(timeout)
        if reader.is_alive():
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return "".join(parts), None


def _become(
    arguments: list[str], folder: str, environment: dict[str, str], output: Any, begun: Any
) -> None:
    """In the new process: all that a shell would give the command, then the command."""
    os.setpgid(0, 0)
    begun.send(None)
    begun.close()
    descriptor = output.detach()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8")
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    # what it begins anew with, where its Ray dies
    sys.argv, sys.orig_argv = ["-c", *arguments], [sys.executable, *PROGRAM, *arguments]

    def command() -> None:
        from switokd.cli.main import main

        main()

    os._exit(status_of(command))


def status_of(program: Callable[[], object]) -> int:
    """Run what a forked process is for, and all that Python does after it; the exit status."""
    status = 1
    try:
        program()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status & 255
