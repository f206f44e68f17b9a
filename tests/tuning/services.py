"""The services of docker/compose.yaml as processes of this machine, by the file's commands."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

from tests.docker.deployment import DOCKER, command_line, secrets_of
from tests.docker.deployment import services as composed_services
from tests.forks import forking
from tests.processes import RAY_SETTINGS, await_, free_port
from tests.tuning.mlflow_server import Server
from tests.tuning.shared_ray import OBJECT_STORE_BYTES

BIN = Path(sys.executable).parent


def postgres_programs() -> Path | None:
    """The folder of Debian's PostgreSQL programs, the newest there is."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


class Services:
    """What compose.yaml starts, under `folder`, with secrets of its own; ends with `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets = secrets_of(secrets.token_hex(8) + "-{}")
        self.ports = {name: free_port() for name in ("postgres", "store", "ray")}
        self.server = Server(folder)
        allowed = {"MLFLOW_ALLOWED_HOSTS": f"127.0.0.1:{self.server.port}"}
        self.composed = composed_services(self.secrets | allowed)
        self._ends = contextlib.ExitStack()
        # short: Ray's sockets lie there, and PostgreSQL runs as another user
        self.temporary = Path(tempfile.mkdtemp(prefix="sw-", dir="/tmp"))
        self.temporary.chmod(0o755)
        self._ends.callback(shutil.rmtree, self.temporary, ignore_errors=True)

    def close(self) -> None:
        self._ends.close()

    def environment(self, service: str) -> dict[str, str]:
        """The service's own variables, with this machine's addresses, and none of the caller's."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
        here = {
            "MLFLOW_TRACKING_URI": self.server.uri,
            "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{self.ports['store']}",
            "MLFLOW_AUTH_CONFIG_PATH": str(DOCKER / "basic_auth.ini"),
            "RAY_ADDRESS": f"127.0.0.1:{self.ports['ray']}",
            "PGHOST": "127.0.0.1",
        }
        own = self.composed[service].get("environment", {})
        given = {name: here.get(name, value) for name, value in own.items()}
        if "PGHOST" in given:
            given["PGPORT"] = str(self.ports["postgres"])
        ours = {"OMP_NUM_THREADS": "1", "SWITOKD_DATA": str(self.folder / "data")}
        return kept | RAY_SETTINGS | given | ours | forking()

    def start_postgres(self, programs: Path) -> None:
        """A database server of its own, run by `postgres` where we are root, which it refuses."""
        given = self.composed["postgres"]["environment"]
        user, database = given["POSTGRES_USER"], given["POSTGRES_DB"]
        data, password = self.temporary / "postgres", self.temporary / "password"
        data.mkdir(mode=0o700)
        password.write_text(given["POSTGRES_PASSWORD"])
        account: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = {"user": "postgres", "group": "postgres", "extra_groups": []}
            for path in (data, password):
                shutil.chown(path, "postgres", "postgres")
        run: dict[str, Any] = {"cwd": self.temporary, "stdout": subprocess.DEVNULL, **account}
        options = ["-U", user, "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync"]
        subprocess.run([programs / "initdb", "-D", data, *options], check=True, **run)
        address = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        port = str(self.ports["postgres"])
        with (self.folder / "postgres.log").open("wb") as log:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, "-p", port, *address, "-c", "fsync=off"],
                stderr=log,
                **run,
            )
        # fast shutdown
        self._ends.callback(_end, process, signal.SIGINT)
        login = f"host=127.0.0.1 port={port} user={user} password={given['POSTGRES_PASSWORD']}"

        def connected() -> Any:
            with contextlib.suppress(psycopg2.OperationalError):
                return psycopg2.connect(f"{login} dbname=postgres")

        connection = await_(connected)
        connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        connection.cursor().execute(f"create database {database}")
        connection.close()

    def start_store(self) -> None:
        """moto in the place of the S3 store, and in it the bucket, made by the file's command."""
        address = ["-H", "127.0.0.1", "-p", str(self.ports["store"])]
        with (self.folder / "store.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", *address], stdout=log, stderr=log
            )
        self._ends.callback(_end, process)
        python, script, *arguments = command_line(self.composed["bucket"])
        assert python == "python"
        making = [sys.executable, DOCKER.parent / script, *arguments]
        environment = self.environment("bucket")
        await_(lambda: subprocess.run(making, env=environment, capture_output=True).returncode == 0)

    def start_mlflow(self) -> None:
        mlflow, server, *options = command_line(self.composed["mlflow"])
        assert (mlflow, server) == ("mlflow", "server")
        self.server.options = options
        self.server.environment = self.environment("mlflow")
        self._ends.callback(self.server.stop)
        self.server.start()
        await_(lambda: self.check_mlflow()[0] == 0)

    def check_mlflow(self, **changed: str) -> tuple[int, str]:
        """The status and words of the health check of compose.yaml, its environment changed."""
        how, python, script = self.composed["mlflow"]["healthcheck"]["test"]
        assert (how, python) == ("CMD", "python")
        checked = subprocess.run(
            [sys.executable, DOCKER.parent / script],
            env=self.environment("mlflow") | changed,
            capture_output=True,
            text=True,
            check=False,
        )
        return checked.returncode, checked.stderr

    def start_ray(self) -> None:
        """The head and one worker, which knows the token and nothing of MLflow."""
        address = f"127.0.0.1:{self.ports['ray']}"
        local = [
            *("--node-ip-address", "127.0.0.1"),
            *("--object-store-memory", str(OBJECT_STORE_BYTES)),
        ]
        for name, extra in (("head", ["--temp-dir", str(self.temporary / "ray")]), ("worker", [])):
            ray, *command = command_line(self.composed[name])
            assert ray == "ray"
            replaced = {
                "--port=6379": f"--port={self.ports['ray']}",
                "--address=head:6379": f"--address={address}",
                "--dashboard-host=0.0.0.0": "--include-dashboard=false",
            }
            command = [replaced.get(part, part) for part in command]
            path = self.folder / f"{name}.log"
            with path.open("wb") as log:
                process = subprocess.Popen(
                    [BIN / ray, *command, *local, *extra],
                    cwd=self.folder,
                    env=self.environment(name),
                    stdout=log,
                    stderr=log,
                )
            self._ends.callback(_end, process)
            # a node joins a little after its command begins
            await_(lambda path=path: "Ray runtime started" in path.read_text(), of=process)
            if name == "head":
                await_(self.ray_answers)

    def ray_answers(self) -> bool:
        """The health check of compose.yaml."""
        how, ray, *command = self.composed["head"]["healthcheck"]["test"]
        assert (how, ray) == ("CMD", "ray")
        command = [part.replace("head:6379", f"127.0.0.1:{self.ports['ray']}") for part in command]
        environment = self.environment("head")
        checked = subprocess.run([BIN / ray, *command], env=environment, capture_output=True)
        return checked.returncode == 0


def _end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    process.send_signal(how)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def running(folder: Path, programs: Path) -> Iterator[Services]:
    """All services, one after another as each waits for the one before."""
    services = Services(folder)
    try:
        services.start_postgres(programs)
        services.start_store()
        services.start_mlflow()
        services.start_ray()
        yield services
    finally:
        services.close()
