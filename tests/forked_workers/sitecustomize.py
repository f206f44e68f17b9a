"""Python reads this as it begins: a worker of Ray's goes on where the imports are done.

Most of what such a worker does for a trial of seconds is to import torch and MLflow. A server that
has (`server.py` beside this) forks, and its child is the worker; this process waits for its end.
Nothing is forked where there is no server, or the worker is to live apart from it, in a namespace.
"""

import os
import sys

WORKER = "ray/_private/workers/default_worker.py"
SERVER = "SWITOKD_TESTS_FORKS"


def _forked(arguments: list[str]) -> None:
    """Have the server run the script with its arguments; does not return where it does."""
    import json
    import socket
    from pathlib import Path

    place = Path(os.environ[SERVER])
    spaces = [
        str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("mnt", "net", "pid", "uts")
    ]
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            if json.loads((place / "namespaces").read_text()) != spaces:
                return
            connection.connect(str(place / "socket"))
        except OSError:
            return
        asked = {
            "arguments": arguments,
            "environment": dict(os.environ),
            "folder": str(Path.cwd()),
            "path": [str(Path(arguments[0]).parent), *sys.path],
        }
        socket.send_fds(connection, [b"!"], [0, 1, 2])
        connection.sendall(json.dumps(asked).encode())
        connection.shutdown(socket.SHUT_WR)
        # it says its status, or is killed and says nothing
        status = connection.recv(1)
    os._exit(status[0] if status else 1)


if SERVER in os.environ:
    _script = next((at for at, each in enumerate(sys.orig_argv) if at and each[:1] != "-"), 0)
    if sys.orig_argv[_script].endswith(WORKER):
        _forked(sys.orig_argv[_script:])
