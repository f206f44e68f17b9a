"""Python reads this as it begins: what is slow to begin goes on where the imports are done.

Most of what a short process of Ray's, MLflow's or ours does is to import. A server that has done so
(`server.py` beside this) forks, and its child is the process; this one stands for it: it passes
signals on, takes its child with it where it is killed, and ends as that ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

SERVER = "SWITOKD_TESTS_FORKS"
SOCKET, RAY_SOCKET = "socket", "with-ray"
# a file that each such process runs as it begins
HOOK = "SWITOKD_TESTS_HOOK"
# Ray's agents are no children of the node's process then: they see its end by their standard input
AGENTS = {"RAY_enable_pipe_based_agent_to_parent_health_check": "1"}
STREAMS = {0: 0, 1: 1, 2: 2}
# Ray reads them as it is imported, a worker's id and more among them
AT_IMPORT = {"RAY_NUM_REDIS_GET_RETRIES"}
WORKER = "ray/_private/workers/default_worker.py"
SCRIPTS = (
    WORKER,
    "ray/_private/workers/setup_worker.py",
    "ray/_private/runtime_env/agent/main.py",
    "ray/_private/log_monitor.py",
    "ray/autoscaler/_private/monitor.py",
    "ray/dashboard/agent.py",
    "ray/dashboard/dashboard.py",
    "bin/ray",
    "bin/switokd",
)
MODULES = ("mlflow", "ray.scripts.scripts", "streamlit", "switokd.session.local_ranks", "uvicorn")


def asked(
    arguments: Sequence[str],
    environment: dict[str, str],
    folder: str,
    path: Sequence[str] | None = None,
    descriptors: Mapping[int, int] = STREAMS,
    group: bool = False,
) -> socket.socket:
    """Have the server be `python ARGUMENTS` in a child; what it says comes by lines.

    First the child's id, at the end its status, negative where it was a signal. A byte to the
    server is a signal for the child; where the connection ends, the child is killed.
    `path`: where it looks for modules, by default where PYTHONPATH says. `descriptors`: what the
    child has as which. `group`: be the first of a group of processes.
    """
    import json
    import signal
    import socket

    blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
    request = {
        "arguments": [*arguments],
        "environment": environment,
        "folder": folder,
        "path": path,
        "descriptors": [*descriptors],
        "blocked": blocked,
        "group": group,
    }
    content = json.dumps(request).encode()
    connection = socket.socket(socket.AF_UNIX)
    reads_its_own = arguments[0].endswith(WORKER) or not AT_IMPORT.isdisjoint(environment)
    name = SOCKET if reads_its_own else RAY_SOCKET
    connection.connect(f"{environment[SERVER]}/{name}")
    socket.send_fds(connection, [len(content).to_bytes(8, "little")], [*descriptors.values()])
    connection.sendall(content)
    return connection


def _stand_for(connection: socket.socket) -> None:
    import signal

    def pass_on(number: int, _: Any) -> None:
        connection.send(bytes([number]))

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    with connection.makefile() as said:
        child = said.readline().strip()
        # whose stand-in this is, for who looks into the list of processes
        with open("/proc/self/comm", "w") as name:  # noqa: PTH123
            name.write(f"for {child}")
        status = int(said.readline() or 1)
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _begin() -> None:
    rest = sys.orig_argv[1:]
    while rest and rest[0] in ("-u", "-B"):
        del rest[0]
    descriptors = STREAMS
    if not rest:
        return
    if rest[0] == "-c":
        # a child of multiprocessing's, with all that it has inherited
        path, ours = [""], rest[1].startswith("from multiprocessing.spawn import spawn_main")
        descriptors = {number: number for number in range(1024) if _is_open(number)}
    elif rest[0] == "-m":
        path, ours = [os.getcwd()], rest[1] in MODULES  # noqa: PTH109
    else:
        path, ours = [os.path.dirname(rest[0])], rest[0].endswith(SCRIPTS)  # noqa: PTH120
    if ours:
        try:
            place = os.getcwd()  # noqa: PTH109
            connection = asked(rest, dict(os.environ), place, [*path, *sys.path], descriptors)
        except OSError:
            return
        _stand_for(connection)


def run_hook() -> None:
    if hook := os.environ.get(HOOK):
        with open(hook) as file:  # noqa: PTH123
            exec(compile(file.read(), hook, "exec"), {})


if __name__ == "sitecustomize" and SERVER in os.environ and len(sys.orig_argv) > 1:
    _begin()
    run_hook()
