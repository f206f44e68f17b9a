"""`python -m tests.forked_workers.server FOLDER`: forks Ray's workers, with torch imported.

It listens in the folder, and ends when that is gone.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
import types
from pathlib import Path
from typing import Any

from tests.commands import IMPORTED, status_of

# what else a worker imports on its way, and nothing of Ray's or ours
FURTHER = ["torch._dynamo", "pandas", "matplotlib.figure", "matplotlib.backends.backend_agg"]
LOOK_SECONDS = 1.0


def main() -> None:
    folder = Path(sys.argv[1])
    for name in (*IMPORTED, *FURTHER):
        importlib.import_module(name)
    # a child's first collection need not look at all of that, and copy it
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    spaces = [
        str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("mnt", "net", "pid", "uts")
    ]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        listener.settimeout(LOOK_SECONDS)
        (folder / "namespaces").write_text(json.dumps(spaces), encoding="utf-8")
        while folder.is_dir():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(None)
                _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
                with connection.makefile("rb") as whole:
                    said = whole.read()
                # who was killed as it asked has said less, which the child cannot read
                if os.fork() == 0:
                    listener.close()
                    _become(json.loads(said), descriptors, connection)
                for descriptor in descriptors:
                    os.close(descriptor)


def _become(asked: dict[str, Any], descriptors: list[int], connection: socket.socket) -> None:
    """In the child: be `python SCRIPT ARGUMENTS`, and tell how it ended."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    script, *_ = sys.argv = asked["arguments"]
    sys.orig_argv = [sys.executable, *asked["arguments"]]
    sys.path[:] = asked["path"]
    importlib.invalidate_caches()
    program = types.ModuleType("__main__")
    program.__file__ = script
    sys.modules["__main__"] = program
    code = compile(Path(script).read_bytes(), script, "exec")
    status = status_of(lambda: exec(code, program.__dict__))
    connection.sendall(bytes([status]))
    os._exit(status)


if __name__ == "__main__":
    main()
