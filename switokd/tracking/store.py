"""MLflow: the only reader, of experiments, runs, the histories of metrics, and artifacts.

Gives plain values and MLflow's own `Run`s. Whatever goes wrong is a StoreError that names the
store, or the run that was asked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from switokd import names
from switokd.tracking.address import (
    StoreError,
    check_answers,
    default_uri,
    is_server,
    sqlite_path,
)
from switokd.tracking.client import open_client
from switokd.tracking.retry import tracking_errors
from switokd.tracking.sqlite_file import open_read_only
from switokd.tracking.sqlite_runs import sqlite_runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

OLDEST_FIRST, NEWEST_FIRST = "start_time ASC", "start_time DESC"

PAGE = 1000
# small enough for a busy server to answer each within its time
SERVER_PAGE = 250
# a server answers several histories at once
HISTORY_READERS = 8
# MLflow's client asks for every run and metric on its own: a page of timelines takes three times as
# long. Its own UI reads here
BULK_ADDRESS = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
# the server cuts an answer here
MOST_POINTS = 25_000
# with the windows of a timeline, at most 2,000 a run, an answer is whole
RUNS_PER_REQUEST = 12
# eight such answers are made at once: by a busy server, not within the client's usual ten seconds
BULK_SECONDS = 60

# run id, metric, step, value, Unix milliseconds
HistoryPoint = tuple[str, str, int, float, int]


class MissingArtifactError(StoreError):
    """A run without the artifact that was asked for."""


@dataclass(frozen=True)
class TrackedExperiment:
    """An experiment in a tracking store, ready for its trials; goes to workers as it is."""

    uri: str
    experiment_id: str
    sweep_run_id: str | None = None

    def trial_runs(self) -> dict[str, Run]:
        """The trials' runs by trial id, newest first; the newest where a trial has several."""
        return self._by_trial("")

    def running(self) -> dict[str, Run]:
        """The trials' runs that are RUNNING, by trial id; the newest where a trial has several."""
        return self._by_trial("attributes.status = 'RUNNING'")

    def _by_trial(self, condition: str) -> dict[str, Run]:
        runs: dict[str, Run] = {}
        for run in TrackingStore(self.uri).runs([self.experiment_id], condition, NEWEST_FIRST):
            trial_id = run.data.tags.get(names.TRIAL_ID)
            if trial_id is not None:
                runs.setdefault(trial_id, run)
        return runs

    def trial_run(self, trial_id: str) -> Run | None:
        """The trial's run, the newest of several."""
        return self._newest_with(names.TRIAL_ID, trial_id)

    def sweep_run(self, experiment: str) -> Run | None:
        """The run of the sweep, the parent of the trials'."""
        return self._newest_with(names.SWEEP, experiment)

    def _newest_with(self, tag: str, value: str) -> Run | None:
        condition = f"tags.`{tag}` = '{value}'"
        found = TrackingStore(self.uri).runs([self.experiment_id], condition, NEWEST_FIRST)
        return next(found, None)


def last_steps(run: Run) -> dict[str, int]:
    """The last step of each of a run's series, by name, as its latest values say it."""
    return {latest.key: latest.step for latest in run.data.to_proto().metrics}


def find_experiment(name: str) -> TrackedExperiment | None:
    """The experiment of the store that the environment names, where there are both; makes neither.

    Raises StoreError where there is a store that does not answer.
    """
    uri = default_uri()
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return None
    check_answers(uri)
    found = TrackingStore(uri).experiment(name)
    if found is None or found.lifecycle_stage == "deleted":
        return None
    return TrackedExperiment(uri, str(found.experiment_id))


class TrackingStore:
    """A tracking store to read from; it is first asked when something is read."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @property
    def _page(self) -> int:
        return SERVER_PAGE if sqlite_path(self.uri) is None else PAGE

    @cached_property
    def _client(self) -> MlflowClient:
        return open_client(self.uri)

    def experiment(self, name: str) -> Experiment | None:
        """The experiment of that name, a deleted one too."""
        with tracking_errors(self.uri):
            return self._client.get_experiment_by_name(name)

    def experiments(self) -> dict[str, str]:
        """Id -> name of every experiment that is not deleted."""
        pages = self._paged(
            lambda token: self._client.search_experiments(max_results=self._page, page_token=token)
        )
        return {experiment.experiment_id: experiment.name for experiment in pages}

    def runs(
        self, experiment_ids: Sequence[str], condition: str = "", order: str = OLDEST_FIRST
    ) -> Iterator[Run]:
        """The experiments' runs that meet MLflow's filter `condition`, the sweep's among them."""
        if not experiment_ids:
            return iter(())
        path = sqlite_path(self.uri)
        if path is not None and not condition:
            with tracking_errors(self.uri):
                return iter(list(sqlite_runs(path, experiment_ids, order == NEWEST_FIRST)))
        return self._paged(
            lambda token: self._client.search_runs(
                list(experiment_ids),
                condition,
                max_results=self._page,
                order_by=[f"attributes.{order}"],
                page_token=token,
            )
        )

    def _paged(self, ask: Callable[[str | None], Any]) -> Iterator[Any]:
        token = None
        while True:
            with tracking_errors(self.uri):
                page = ask(token)
            yield from page
            token = page.token
            if not token:
                return

    def run(self, run_id: str) -> Run:
        with tracking_errors(self.uri, run_id):
            return self._client.get_run(run_id)

    def histories(self, run_ids: Iterable[str], metrics: Iterable[str]) -> list[HistoryPoint]:
        """Every logged point of some runs' metrics, in no order of steps.

        A metric that a run does not have gives no point.
        """
        run_ids, metrics = list(run_ids), list(metrics)
        path = sqlite_path(self.uri)
        with tracking_errors(self.uri):
            if path is not None:
                pairs = [(run_id, metric) for run_id in run_ids for metric in metrics]
                return sqlite_points(path, pairs)
            chunks = [
                (run_ids[start : start + RUNS_PER_REQUEST], metric)
                for start in range(0, len(run_ids), RUNS_PER_REQUEST)
                for metric in metrics
            ]
            with ThreadPoolExecutor(HISTORY_READERS) as pool:
                parts = list(pool.map(lambda chunk: self._points(*chunk), chunks))
        return [point for part in parts for point in part]

    def _points(self, run_ids: list[str], metric: str) -> list[HistoryPoint]:
        """From a server or a database: several runs at once where it can, else one by one."""
        found = server_points(self.uri, run_ids, metric) if is_server(self.uri) else None
        if found is not None:
            return found
        return [
            (run_id, metric, point.step, point.value, point.timestamp)
            for run_id in run_ids
            for point in self._client.get_metric_history(run_id, metric)
        ]

    def artifacts(self, run_id: str, folder: str | None = None) -> list[str]:
        """Paths of the files directly in a folder of the run's artifacts, if any."""
        with tracking_errors(self.uri, run_id):
            listed = self._client.list_artifacts(run_id, folder)
        return sorted(entry.path for entry in listed if not entry.is_dir)

    def artifact(self, run_id: str, path: str) -> bytes:
        """Content of one artifact. Raises MissingArtifactError where the run has none."""
        folder = path.rpartition("/")[0] or None
        if path not in self.artifacts(run_id, folder):
            raise MissingArtifactError(f"run {run_id} has no artifact {path}")
        with tempfile.TemporaryDirectory() as target:
            return self.download(run_id, path, target).read_bytes()

    def download(self, run_id: str, path: str, folder: str | None = None) -> Path:
        """A local copy of one artifact, in `folder` or a temporary one that stays."""
        with tracking_errors(self.uri, run_id):
            return Path(self._client.download_artifacts(run_id, path, folder))


def server_points(uri: str, run_ids: Sequence[str], metric: str) -> list[HistoryPoint] | None:
    """Points of one metric.

    None where the server does not have the address, or cut its answer. Raises MlflowException where
    it does not answer.
    """
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    parameters = [("run_id", run_id) for run_id in run_ids]
    parameters += [("metric_key", metric), ("max_results", str(MOST_POINTS))]
    credentials = get_default_host_creds(uri)
    answer = http_request(credentials, BULK_ADDRESS, "GET", params=parameters, timeout=BULK_SECONDS)
    if answer.status_code != 200:
        return None
    found = answer.json().get("metrics", [])
    if len(found) >= MOST_POINTS:
        return None
    return [
        (p["run_id"], metric, int(p["step"]), float(p["value"]), int(p["timestamp"])) for p in found
    ]


def sqlite_points(path: Path, wanted: list[tuple[str, str]]) -> list[HistoryPoint]:
    """The points of (run id, metric) pairs, in one statement each.

    Read from the file itself: through MLflow, which makes an object of each point and leaves the
    choice of the index to SQLite, a page of timelines takes seconds in a large store.
    """
    # the plus keeps SQLite from the primary key, which would have it read every run's points
    statement = (
        "select run_uuid, key, step, case when is_nan then null else value end, timestamp "
        "from metrics where run_uuid = ? and +key = ? order by timestamp, step, value"
    )
    nan = float("nan")
    with closing(open_read_only(path)) as connection:
        return [
            (run_id, metric, step, nan if value is None else value, time_ms)
            for pair in wanted
            for run_id, metric, step, value, time_ms in connection.execute(statement, pair)
        ]
