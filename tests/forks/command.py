"""Commands as processes of their own that begin where the imports are done."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.forks.sitecustomize import asked

# of Python: the command line
PROGRAM = ["-c", "from switokd.cli.main import main; main()"]
SWITOKD = [sys.executable, *PROGRAM]


class Command:
    """A running `switokd`, of its own process group, like one in a shell's foreground.

    What it prints is read as from a `subprocess.Popen`.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.args = ["switokd", *arguments]
        self.returncode: int | None = None
        self.stderr = None
        reader, writer = os.pipe()
        with open(os.devnull) as nothing:  # noqa: PTH123
            self._connection = asked(
                [*PROGRAM, *arguments],
                dict(environment),
                str(folder),
                descriptors={0: nothing.fileno(), 1: writer, 2: writer},
                group=True,
            )
        os.close(writer)
        self.stdout = os.fdopen(reader, encoding="utf-8")
        self._said = self._connection.makefile()
        self.pid = int(self._said.readline())

    def poll(self) -> int | None:
        return self._ended(0)

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            self.returncode = int(self._said.readline())
            self._connection.close()
        return self.returncode

    def ended(self, status: int = 0, timeout: float = 300) -> str:
        """All that it prints until it ends, which it does with that status."""
        output, _ = self.communicate(timeout)
        assert self.returncode == status, output
        return output

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
