"""Processes that tests start: awaited by what they do, never past their end; and their ports."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

# below the ports that the kernel gives to outgoing connections, above those of Ray's workers; each
# process of pytest has its own, since a port is taken long after it is chosen
FIRST_PORT, PORTS = 20_000, 600
# Ray's workers give way to all others by default: on a busy machine they would hardly run
RAY_SETTINGS = {"RAY_worker_niceness": "0"}
_ports = itertools.cycle(range(PORTS))
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def free_port() -> int:
    """A port of loopback that nobody listens on, and no other test is given."""
    for offset in _ports:
        port = FIRST_PORT + PORTS * (_worker % 20) + offset
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError


def await_(
    condition: Callable[[], Any],
    seconds: float = 180.0,
    of: subprocess.Popen[Any] | None = None,
    pause: float = 0.02,
) -> Any:
    """Wait until the condition gives something.

    Fails after a while, or with what the process printed once the one that must bring it about has
    ended. `of`: that process, where there is one. `pause`: seconds from one look to the next, more
    where a look costs.
    """
    deadline = time.monotonic() + seconds
    while True:
        ended = of is not None and of.poll() is not None
        if value := condition():
            return value
        assert not ended, f"status {of.returncode}: {_printed(of)}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(pause)


def next_line(process: subprocess.Popen[str], seconds: float = 180.0) -> str:
    """The next line that a process prints; fails, with all it says, where it ends without one."""
    assert process.stdout is not None
    killer = threading.Timer(seconds, process.kill)
    killer.start()
    try:
        line = process.stdout.readline()
    finally:
        killer.cancel()
    assert line, f"status {process.wait(30)}: {_printed(process)}"
    return line


def _printed(process: subprocess.Popen[Any]) -> str:
    """What is left in its pipes; a child of its own may keep them open, so without waiting."""
    parts = []
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            os.set_blocking(stream.fileno(), False)
            with contextlib.suppress(BlockingIOError):
                while part := os.read(stream.fileno(), 1 << 16):
                    parts.append(part)
    return b"".join(parts).decode(errors="replace")
