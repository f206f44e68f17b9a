"""`python -m tests.forks.server FOLDER`: forks processes that have all imported that is slow.

It listens in the folder, and ends when that is gone.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
import threading
import traceback
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.forks.sitecustomize import AGENTS, RAY_SOCKET, SOCKET, STREAMS, run_hook
from tests.processes import RAY_SETTINGS, await_
from tuning.workers.ray_environment import prepare

# nothing of ours, and nothing that reads its settings as it is imported
IMPORTED = [
    "torch._dynamo",
    "torchvision",
    "mlflow.server.handlers",
    "mlflow.store.tracking.sqlalchemy_store",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pandas",
    "scipy.stats",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "plotly.graph_objects",
    "fastapi",
    "flask",
    "uvicorn",
    # what Ray imports
    *("attrs", "filelock", "fsspec", "jsonschema", "msgpack", "pdb", "rich.progress", "wcwidth"),
]
# it does read some; what its workers read differs from one to the next
RAY = [
    "ray.tune",
    "ray.dashboard.agent",
    "ray.dashboard.dashboard",
    "ray.autoscaler._private.monitor",
    "ray._private.log_monitor",
    "ray._private.runtime_env.agent.runtime_env_agent",
]
LOOK_SECONDS = 1.0
NAMESPACES = ("net", "uts", "mnt")
ADDED: list[str] = []


class Server:
    """Who has asked for which child, until it ends."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._askers: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._fork)
        woken, self._wake = socket.socketpair()
        for each in (woken, self._wake):
            each.setblocking(False)
        self._selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(4096))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno())

    def serve(self, folder: Path) -> None:
        while folder.is_dir():
            for key, _ in self._selector.select(LOOK_SECONDS):
                key.data()
            self._reap()

    def _fork(self) -> None:
        connection, _ = self._listener.accept()
        # who asks may be killed before all is said
        connection.settimeout(10)
        with suppress(OSError, ValueError):
            size, descriptors, _, _ = socket.recv_fds(connection, 8, 250)
            content = connection.recv(int.from_bytes(size, "little"), socket.MSG_WAITALL)
            request = json.loads(content)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            asker, *_ = struct.unpack("3i", credentials)
            _set_namespace(asker, "pid")
            child = os.fork()
            if child == 0:
                _become(request, descriptors, asker)
            if request["group"]:
                # also here: who asks may signal the group as soon as it knows the id
                with suppress(OSError):
                    os.setpgid(child, child)
            _set_namespace(os.getpid(), "pid")
            for descriptor in descriptors:
                os.close(descriptor)
            self._askers[child] = connection
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._hear(child))
            # one who is gone by now is heard to be
            with suppress(OSError):
                connection.sendall(b"%d\n" % child)
            connection.setblocking(False)
            return
        connection.close()

    def _hear(self, child: int) -> None:
        """Signals, and no more where who asked is gone."""
        try:
            numbers = self._askers[child].recv(16)
        except OSError:
            numbers = b""
        for number in numbers or [signal.SIGKILL]:
            with suppress(ProcessLookupError):
                os.kill(child, number)
        if not numbers:
            self._selector.unregister(self._askers[child])
            self._askers.pop(child).close()

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                child, status = ended
                if child in self._askers:
                    self._selector.unregister(self._askers[child])
                    with self._askers.pop(child) as connection, suppress(OSError):
                        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _set_namespace(process: int, kind: str) -> None:
    """Go where the process is; of processes' ids that is where the next child will be."""
    theirs = Path(f"/proc/{process}/ns/{kind}")
    ours = "pid_for_children" if kind == "pid" else kind
    if theirs.readlink() != Path(f"/proc/self/ns/{ours}").readlink():
        with theirs.open() as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), 0):
                raise OSError(ctypes.get_errno(), f"setns {kind}")


def _become(request: dict[str, Any], descriptors: list[int], asker: int) -> None:
    """In the child: be `python ARGUMENTS`."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for kind in NAMESPACES:
            _set_namespace(asker, kind)
        numbers = request["descriptors"]
        # out of each other's way
        aside = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 512) for descriptor in descriptors]
        for number, descriptor in zip(numbers, aside, strict=True):
            os.dup2(descriptor, number)
        # the server's own, connections of others among them
        for number in set(range(1024)) - set(numbers):
            with suppress(OSError):
                os.close(number)
        if request["group"]:
            os.setpgid(0, 0)
        else:
            os.setsid()
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)
            for number in STREAMS
        )
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        sys.orig_argv = [sys.executable, *request["arguments"]]
        if request["path"] is None:
            own = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
            request["path"] = ["", *own, *sys.path]
        sys.path[:] = [*ADDED, *request["path"]]
        importlib.invalidate_caches()
        run_hook()
        status = _status_of(request["arguments"])
    except BaseException:
        traceback.print_exc()
    os._exit(status)


def _status_of(arguments: list[str]) -> int:
    """Run the program, and all that Python does after it."""
    status = 1
    try:
        _run(*arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status & 255


def _run(kind: str, *rest: str) -> None:
    program = types.ModuleType("__main__")
    sys.modules["__main__"] = program
    if kind == "-m":
        sys.argv = [*rest]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = [kind, *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), program.__dict__)
    else:
        sys.argv = [kind, *rest]
        program.__file__ = kind
        exec(compile(Path(kind).read_bytes(), kind, "exec"), program.__dict__)


def main() -> None:
    folder = Path(sys.argv[1])
    with_ray = folder / RAY_SOCKET
    for name in IMPORTED:
        importlib.import_module(name)
    if os.fork() == 0:
        before, path = dict(os.environ), [*sys.path]
        os.environ.update(RAY_SETTINGS | AGENTS)
        prepare()
        for name in RAY:
            importlib.import_module(name)
        # Ray has some libraries of its own
        ADDED.extend(place for place in sys.path if place not in path)
        os.environ.clear()
        os.environ.update(before)
        serve(with_ray)
    else:
        await_(with_ray.exists)
        serve(folder / SOCKET)


def serve(place: Path) -> None:
    # a child's first collection need not look at all that is imported, and copy it
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen(64)
        Server(listener).serve(place.parent)


if __name__ == "__main__":
    main()
