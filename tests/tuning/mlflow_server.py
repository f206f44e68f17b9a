"""A real MLflow server on loopback, to be stopped, started again and asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tests.forks import forking
from tests.processes import await_, free_port
from tests.shared_folder import put_empty_store


class Server:
    """`mlflow server` on one address, its port kept from one start to the next."""

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        host: str = "127.0.0.1",
        **environment: str,
    ) -> None:
        """Without `options` it keeps everything under `folder`, on one process."""
        self.host, self.port = host, free_port()
        self.uri = f"http://{host}:{self.port}"
        self.folder = folder
        # without the eight processes that MLflow starts for the evaluation of language models
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.environment = {**os.environ, **forking(), **quiet, **environment}
        if not options and not (folder / "server.db").exists():
            put_empty_store(folder / "server.db")
        self.options = options or [
            *("--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder / 'server.db'}"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        address = ["--host", self.host, "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *self.options, *address],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            await_(self.answers, of=self.process)
        except AssertionError as error:
            raise AssertionError(self.log.read_text(errors="replace")[-3000:]) from error

    def answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.uri}/health", timeout=5).status == 200
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                # it waits for the end of a request, which a client that a test holds still never
                # sends; whoever is asked to go, goes
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(30)
            await_(lambda: not self.answers())
