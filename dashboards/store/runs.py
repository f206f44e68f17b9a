"""MLflow store -> DataFrames; the only module here that talks to MLflow.

`Store.trials` is one paged query however many runs there are. Its frame has one row per trial
run: the identity as plain columns (`TRIAL_COLUMNS`), everything else under MLflow's own prefixes
(`params.recipe.epochs`, `tags.switokd.git_commit`, `metrics.best_val_top1/S1`).
"""

from __future__ import annotations

import difflib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
from mlflow.entities import Run
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from switokd import names
from switokd.tracking import tracker as tracking
from switokd.tracking.address import StoreError, check_answers, open_read_only, sqlite_path

TAG_PREFIX = "switokd."
IDENTITY_TAGS = {
    "trial_id": names.TRIAL_ID,
    "topology": names.TOPOLOGY,
    "pair": names.PAIR,
    "method": names.METHOD,
    "variant": names.VARIANT,
    "git_commit": names.GIT_COMMIT,
}
TRIAL_COLUMNS = (
    *("run_id", "run_name", "experiment", "experiment_id", "status", "start_time", "end_time"),
    *IDENTITY_TAGS,
    *("dataset", "temperature", "seed"),
)

# small enough for a busy server to answer each within its time
PAGE = 250
# a server answers several histories at once
HISTORY_READERS = 8
# MLflow's client asks for every run and metric on its own: a page of timelines takes three times as
# long. Its own UI reads here
BULK_ADDRESS = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
# the server cuts an answer here
MOST_POINTS = 25_000
# with the windows of a timeline, at most 2,000 a run, an answer is whole
RUNS_PER_REQUEST = 12

HistoryPoint = tuple[str, str, int, float, int]


class MissingArtifactError(StoreError):
    """A run without the artifact that was asked for."""


class Store:
    """A tracking store to read from; without an address, the one that a sweep would write to.

    Raises StoreError where it is missing or does not answer.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.uri = uri or tracking.default_uri()
        check_answers(self.uri)
        # one bar per file, into pages and logs, otherwise
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        with plain_errors(self.uri):
            self._client = tracking.client(self.uri)

    @property
    def is_server(self) -> bool:
        return urlsplit(self.uri).scheme in ("http", "https")

    def experiments(self) -> dict[str, str]:
        """Id -> name of every experiment that is not deleted."""
        names: dict[str, str] = {}
        token = None
        with plain_errors(self.uri):
            while True:
                page = self._client.search_experiments(max_results=PAGE, page_token=token)
                names |= {experiment.experiment_id: experiment.name for experiment in page}
                token = page.token
                if not token:
                    return names

    def trials(self, experiment: str | None = None) -> pd.DataFrame:
        """One row per trial run of one experiment, or of all, whatever its status.

        The sweep run (no trial id) is left out. Raises StoreError for an unknown experiment.
        """
        names = self.experiments()
        if experiment is not None:
            known = sorted(names.values())
            names = {key: name for key, name in names.items() if name == experiment}
            if not names:
                raise StoreError(unknown_experiment(experiment, known, self.uri))
        return self._frame(names)

    def unfinished(self) -> pd.DataFrame:
        """The trials, of all experiments, that run, failed or were stopped."""
        return self._frame(self.experiments(), "attributes.status != 'FINISHED'")

    def _frame(self, experiments: dict[str, str], condition: str = "") -> pd.DataFrame:
        rows = [
            row_of(run, experiments[run.info.experiment_id])
            for run in self._runs(list(experiments), condition)
        ]
        return typed(pd.DataFrame.from_records([row for row in rows if row["trial_id"]]))

    def _runs(self, experiment_ids: list[str], condition: str) -> Iterator[Run]:
        token = None
        with plain_errors(self.uri):
            while experiment_ids:
                page = self._client.search_runs(
                    experiment_ids,
                    condition,
                    max_results=PAGE,
                    order_by=["start_time ASC"],
                    page_token=token,
                )
                yield from page
                token = page.token
                if not token:
                    return

    def histories(self, run_ids: Iterable[str], keys: Iterable[str]) -> pd.DataFrame:
        """Every logged point of the metrics: columns run_id, metric, step, value, time (UTC).

        A metric that a run does not have gives no rows.
        """
        run_ids, keys = list(run_ids), list(keys)
        path = sqlite_path(self.uri)
        if path is None:
            points = self._points(run_ids, keys)
        else:
            points = sqlite_points(path, [(run_id, key) for run_id in run_ids for key in keys])
        frame = pd.DataFrame(points, columns=["run_id", "metric", "step", "value", "time"])
        frame["time"] = pd.to_datetime(frame["time"], unit="ms", utc=True)
        return frame.astype({"step": "int64", "value": "float64"}).sort_values(
            ["run_id", "metric", "step"], kind="stable", ignore_index=True
        )

    def _points(self, run_ids: list[str], keys: list[str]) -> list[HistoryPoint]:
        """From a server or a database: several runs at once where it can, else one by one."""
        chunks = [
            (run_ids[start : start + RUNS_PER_REQUEST], key)
            for start in range(0, len(run_ids), RUNS_PER_REQUEST)
            for key in keys
        ]
        with plain_errors(self.uri), ThreadPoolExecutor(HISTORY_READERS) as pool:
            parts = list(pool.map(lambda chunk: self._chunk(*chunk), chunks))
        return [point for part in parts for point in part]

    def _chunk(self, run_ids: list[str], key: str) -> list[HistoryPoint]:
        found = server_points(self.uri, run_ids, key) if self.is_server else None
        if found is not None:
            return found
        return [
            (run_id, key, point.step, point.value, point.timestamp)
            for run_id in run_ids
            for point in self._client.get_metric_history(run_id, key)
        ]

    def artifacts(self, run_id: str, folder: str | None = None) -> list[str]:
        """Paths of the files directly in a folder of the run's artifacts, if any."""
        with plain_errors(self.uri):
            listed = self._client.list_artifacts(run_id, folder)
        return sorted(entry.path for entry in listed if not entry.is_dir)

    def artifact(self, run_id: str, path: str) -> bytes:
        """Content of one artifact. Raises MissingArtifactError where the run has none."""
        folder = path.rpartition("/")[0] or None
        if path not in self.artifacts(run_id, folder):
            raise MissingArtifactError(f"run {run_id} has no artifact {path}")
        with plain_errors(self.uri), tempfile.TemporaryDirectory() as target:
            return Path(self._client.download_artifacts(run_id, path, target)).read_bytes()

    def timeline(self, run_id: str) -> pd.DataFrame:
        """Every step of every link. Raises MissingArtifactError where the run has no timeline."""
        return pd.read_parquet(io.BytesIO(self.artifact(run_id, names.TIMELINE_FILE)))


def row_of(run: Run, experiment: str) -> dict[str, object]:
    """A run as one flat record."""
    tags = run.data.tags
    row: dict[str, object] = {
        "run_id": run.info.run_id,
        "run_name": run.info.run_name,
        "experiment": experiment,
        "experiment_id": run.info.experiment_id,
        "status": run.info.status,
        "start_time": run.info.start_time,
        "end_time": run.info.end_time,
    }
    row |= {name: tags.get(tag) for name, tag in IDENTITY_TAGS.items()}
    row |= {name: run.data.params.get(name) for name in ("dataset", "temperature", "seed")}
    if run.data.params.get("stand_in") == "true":
        # not the set itself: no published number belongs beside it
        row["dataset"] = f"{row['dataset']} (stand-in)"
    row |= {f"params.{key}": value for key, value in run.data.params.items()}
    row |= {f"tags.{key}": value for key, value in tags.items() if key.startswith(TAG_PREFIX)}
    row |= {f"metrics.{key}": value for key, value in run.data.metrics.items()}
    return row


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with every identity column, times in UTC, temperature and seed as numbers."""
    missing = [column for column in TRIAL_COLUMNS if column not in frame]
    frame = frame.assign(**dict.fromkeys(missing))
    for column in ("start_time", "end_time"):
        frame[column] = pd.to_datetime(pd.to_numeric(frame[column]), unit="ms", utc=True)
    frame["temperature"] = pd.to_numeric(frame["temperature"])
    frame["seed"] = pd.to_numeric(frame["seed"]).astype("Int64")
    others = sorted(str(column) for column in frame if column not in TRIAL_COLUMNS)
    return frame[[*TRIAL_COLUMNS, *others]]


def unknown_experiment(name: str, known: list[str], uri: str) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = (
        f"; did you mean {nearest[0]!r}?" if nearest else f"; it has {', '.join(known) or 'none'}"
    )
    return f"no experiment {name!r} in {uri}{hint}"


def server_points(uri: str, run_ids: Sequence[str], key: str) -> list[HistoryPoint] | None:
    """Points (run id, metric, step, value, Unix milliseconds) of one metric.

    None where the server does not have the address, or cut its answer. Raises MlflowException where
    it does not answer.
    """
    parameters = [("run_id", run_id) for run_id in run_ids]
    parameters += [("metric_key", key), ("max_results", str(MOST_POINTS))]
    answer = http_request(get_default_host_creds(uri), BULK_ADDRESS, "GET", params=parameters)
    if answer.status_code != 200:
        return None
    found = answer.json().get("metrics", [])
    if len(found) >= MOST_POINTS:
        return None
    return [
        (point["run_id"], key, int(point["step"]), float(point["value"]), int(point["timestamp"]))
        for point in found
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
    with plain_errors(str(path)), closing(open_read_only(path)) as connection:
        return [row for pair in wanted for row in connection.execute(statement, pair)]


@contextmanager
def plain_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into one StoreError that names the store."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # MLflow lets through what its parts raise, its migrations' too
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise StoreError(f"the tracking store {uri} cannot be read: {first_line}") from error
