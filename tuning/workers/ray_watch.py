"""A Ray that dies while trials train: seen from beside the thread that waits for it.

Ray itself says nothing when its node process is gone, and after a minute without its control
process it ends the driver. Neither lets the main thread go.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Mapping
from types import TracebackType

import ray

from tuning.tune_internals import silence_raylet_death

PROBE_SECONDS = 2.0
ANSWER_SECONDS = 5.0
# one silence may be the network's
SILENCES = 3

Address = tuple[str, int]


def ray_processes() -> dict[str, Address]:
    """Where the processes listen without which nothing goes on, by their names in a message."""
    context = ray.get_runtime_context()
    ours = context.get_node_id()
    (node,) = (node for node in ray.nodes() if node["NodeID"] == ours)
    host, port = context.gcs_address.rsplit(":", 1)
    return {
        "control process (gcs_server)": (host, int(port)),
        "node process (raylet)": (node["NodeManagerAddress"], node["NodeManagerPort"]),
    }


class RayWatch:
    """While its block runs, asks Ray's processes whether they are there.

    For the main thread. `lost` is called once, in a thread of the watch, with the name and address
    of the one that is not, and whether the user has interrupted before; it must not return. The
    block's end waits for it.
    """

    def __init__(self, processes: Mapping[str, Address], lost: Callable[[str, bool], None]) -> None:
        self._processes = processes
        self._lost = lost
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ray watch", daemon=True)

    def __enter__(self) -> RayWatch:
        # Tune has handlers of its own, and may never come to obey them: Python notes signals here
        self._signals, self._noted = socket.socketpair()
        self._signals.setblocking(False)
        self._noted.setblocking(False)
        signal.set_wakeup_fd(self._noted.fileno(), warn_on_full_buffer=False)
        silence_raylet_death()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # an error of Ray's may be what its death looks like: the watch has the last word
        if not isinstance(error, Exception) or self._silent() is None:
            self._ended.set()
        self._thread.join()
        signal.set_wakeup_fd(-1)
        self._signals.close()
        self._noted.close()

    def _watch(self) -> None:
        silences = 0
        while not self._ended.wait(PROBE_SECONDS):
            silent = self._silent()
            silences = silences + 1 if silent else 0
            if silent and silences == SILENCES:
                self._lost(silent, self._interrupted())
                return

    def _interrupted(self) -> bool:
        try:
            return bool({*self._signals.recv(4096)} & {signal.SIGINT, signal.SIGTERM})
        except BlockingIOError:
            return False

    def _silent(self) -> str | None:
        for name, address in self._processes.items():
            try:
                socket.create_connection(address, timeout=ANSWER_SECONDS).close()
            except OSError:
                return f"{name} at {address[0]}:{address[1]}"
        return None
