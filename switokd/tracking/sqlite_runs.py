"""Runs read from a SQLite store's file itself, with what is read of them under MLflow's names.

Through MLflow a run takes two milliseconds, with a query and several objects for every param.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from switokd.tracking.sqlite_file import open_read_only


class StoredInfo(NamedTuple):
    """As `mlflow.entities.RunInfo`; times in milliseconds of the epoch."""

    run_id: str
    run_name: str
    experiment_id: str
    status: str
    start_time: int
    end_time: int | None
    artifact_uri: str


@dataclass(frozen=True)
class StoredData:
    """As `mlflow.entities.RunData`: the latest value of each metric."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


class StoredRun(NamedTuple):
    """As `mlflow.entities.Run`."""

    info: StoredInfo
    data: StoredData


def sqlite_runs(
    path: Path, experiment_ids: Sequence[str], newest_first: bool
) -> Iterator[StoredRun]:
    """All runs of some experiments that are not deleted, by their start.

    Raises sqlite3.Error.
    """
    with closing(open_read_only(path)) as connection:
        # what is read is of one moment
        connection.execute("begin")
        chosen = ", ".join("?" * len(experiment_ids))
        condition = f"runs.lifecycle_stage = 'active' and runs.experiment_id in ({chosen})"
        order = "desc" if newest_first else "asc"
        infos = [
            StoredInfo(run_id, name, str(experiment_id), *others)
            for run_id, name, experiment_id, *others in connection.execute(
                "select run_uuid, name, experiment_id, status, start_time, end_time, artifact_uri "
                f"from runs where {condition} order by start_time {order}, run_uuid",
                list(experiment_ids),
            )
        ]

        def entries(table: str, columns: str) -> sqlite3.Cursor:
            return connection.execute(
                f"select {table}.run_uuid, {columns} from runs join {table} using (run_uuid) "
                f"where {condition}",
                list(experiment_ids),
            )

        data = {info.run_id: StoredData() for info in infos}
        for run_id, key, value in entries("params", "key, value"):
            data[run_id].params[key] = value
        for run_id, key, value in entries("tags", "key, value"):
            data[run_id].tags[key] = value
        for run_id, key, value, is_nan in entries("latest_metrics", "key, value, is_nan"):
            data[run_id].metrics[key] = math.nan if is_nan else value
    for info in infos:
        yield StoredRun(info, data[info.run_id])
