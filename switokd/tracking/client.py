"""MLflow's client, made in one place: quiet, and soon to give up; and a new store of its own."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from switokd.tracking.sqlite_file import ensure_made

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_client(uri: str) -> MlflowClient:
    """A client that gives up early: trying again is the sender's business.

    MLflow's own retries would create a second run where only the answer to the first was lost.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    # one bar per file, into pages and logs, otherwise
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # two links a run among our own lines, which open a view that shows nothing of ours
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    # set after the import, which sets them anew: what goes wrong is raised too, and told once
    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    return MlflowClient(uri)


def ensure_sqlite(path: Path) -> None:
    """Make the SQLite store where there is none (`sqlite_file.ensure_made`)."""

    def build(new: Path) -> None:
        open_client(f"sqlite:///{new}").search_experiments(max_results=1)

    path.parent.mkdir(parents=True, exist_ok=True)
    ensure_made(path, build, newest_revision)


def newest_revision() -> str:
    """Of the schema that this MLflow wants of a database, which no public call tells."""
    from mlflow.store.db.utils import _get_latest_schema_revision

    return str(_get_latest_schema_revision())
