"""MLflow's UI over the store that sweeps write to: `make ui`."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from switokd.tracking.address import StoreError, check_answers, default_uri, is_server, sqlite_path

HOST, FIRST_PORT, PORTS = "127.0.0.1", 5000, 100
# without it MLflow opens its view for language models
VIEW = "workflowType=machine_learning"
# and starts eight processes for their evaluation
JOBS = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"


def ui_address(uri: str) -> str:
    """Where a store is shown: a server by itself, a file where `make ui` last showed it."""
    if is_server(uri):
        return uri.rstrip("/")
    noted = _port_file(uri)
    port = noted.read_text(encoding="utf-8") if noted is not None and noted.is_file() else ""
    return f"http://{HOST}:{port if port.isdecimal() else FIRST_PORT}"


def main() -> NoReturn:
    """Become `mlflow ui` on the first free port, and say where it opens."""
    uri = default_uri()
    try:
        check_answers(uri)
    except StoreError as error:
        sys.exit(f"switokd: {error}")
    if is_server(uri):
        print(f"the store is a server: its UI is at {ui_address(uri)}/#/experiments?{VIEW}")
        sys.exit()
    port = free_port(FIRST_PORT)
    noted = _port_file(uri)
    if noted is not None:
        noted.write_text(str(port), encoding="utf-8")
    print(f"MLflow's UI: http://{HOST}:{port}/#/experiments?{VIEW}", flush=True)
    os.environ.setdefault(JOBS, "false")
    place = ["--host", HOST, "--port", str(port)]
    command = ["-m", "mlflow", "ui", "--backend-store-uri", uri, *place]
    os.execv(sys.executable, [sys.executable, *command])


def free_port(first: int) -> int:
    """The first port of this machine from `first` on that nobody listens on."""
    for port in range(first, first + PORTS):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) != 0:
                return port
    sys.exit(f"switokd: no free port from {first} to {first + PORTS - 1}")


def _port_file(uri: str) -> Path | None:
    path = sqlite_path(uri)
    return None if path is None else path.with_name(f"{path.name}.ui_port")


if __name__ == "__main__":
    main()
