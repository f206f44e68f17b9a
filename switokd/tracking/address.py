"""A tracking store by its address: whether it answers, asked before MLflow is.

MLflow itself would create a missing SQLite file, and would try a dead server again for minutes.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from switokd.tracking import sqlite_file
from switokd.tracking.sqlite_file import ANSWER_SECONDS
from switokd.validation import SpecError

# the databases that MLflow writes to, and their usual ports
DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


class StoreError(SpecError):
    """A tracking store that is not named, not there, or does not answer."""


def default_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else SQLite under runs/; a relative SQLite path is made absolute."""
    return absolute_uri(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///runs/mlflow.db")


def absolute_uri(uri: str) -> str:
    """The same store under any working directory: Ray's workers have their own."""
    prefix = "sqlite:///"
    if uri.startswith(prefix) and not uri.startswith(prefix + "/"):
        return prefix + str(Path(uri.removeprefix(prefix)).absolute())
    return uri


def is_local(uri: str) -> bool:
    """Whether the store is a file of this machine, which another one would not see."""
    return "://" not in uri or uri.startswith(("sqlite:", "file:"))


def is_server(uri: str) -> bool:
    """Whether MLflow's own server answers there, and not a database or a file."""
    return urlsplit(uri).scheme in ("http", "https")


def refuse_password(uri: str) -> None:
    """Raise StoreError for an address with a password: addresses go into messages and files."""
    parts = urlsplit(uri)
    asked = {key.lower() for key, _ in parse_qsl(parts.query)}
    if parts.password is not None or asked & {"password", "passwd", "sslpassword"}:
        raise StoreError(
            f"MLFLOW_TRACKING_URI holds a password for {parts.hostname}, and addresses are "
            "printed: leave it out there and set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD (a server) or PGPASSWORD (PostgreSQL)"
        )


def check_writable(uri: str) -> None:
    """Raise StoreError where a store can neither be written nor made."""
    path = sqlite_path(uri)
    if path is None:
        check_answers(uri)
    elif urlsplit(uri).path in ("", "/"):
        raise StoreError(f"{uri} names no file: in memory, the results would be lost")
    elif path.is_dir():
        raise StoreError(f"{uri} is a folder; a SQLite store is a file")
    elif path.exists():
        check_sqlite(path, uri)
        try:
            sqlite_file.check_writes(path)
        except sqlite3.Error as error:
            raise StoreError(f"{uri} cannot be written: {error}") from None


def check_answers(uri: str) -> None:
    """Raise StoreError where nothing answers at the address."""
    refuse_password(uri)
    parts = urlsplit(uri)
    path = sqlite_path(uri)
    if path is not None:
        check_sqlite(path, uri)
    elif is_server(uri):
        check_server(uri)
    elif parts.scheme.split("+")[0] in DATABASES and parts.hostname:
        check_database(parts.hostname, parts.port or DATABASES[parts.scheme.split("+")[0]])
    elif parts.scheme != "databricks" and uri != "databricks":
        raise StoreError(
            f"{uri!r} is no tracking store: MLFLOW_TRACKING_URI is sqlite:///FILE, http(s)://HOST, "
            f"or a database ({', '.join(DATABASES)}); MLflow has no folder store any more"
        )


def check_database(host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise StoreError(f"the tracking database {host}:{port} does not answer: {error}") from error


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other store."""
    parts = urlsplit(uri)
    return Path(parts.path[1:]) if parts.scheme == "sqlite" else None


def check_sqlite(path: Path, uri: str) -> None:
    if not path.is_file():
        raise StoreError(f"no tracking store at {uri}: run a sweep first")
    try:
        sqlite_file.open_read_only(path).close()
    except sqlite3.Error as error:
        raise StoreError(f"{uri} is not a readable SQLite store: {error}") from error


def update_statistics(uri: str) -> None:
    """Let a SQLite store choose its indices well; nothing for any other."""
    path = sqlite_path(uri)
    if path is not None and path.is_file():
        sqlite_file.update_statistics(path)


def check_server(uri: str) -> None:
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers; whether it lets us in, the query will tell
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise StoreError(f"the tracking server {uri} does not answer: {reason}") from error
