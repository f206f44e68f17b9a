"""Metric histories of several runs from an MLflow server, in one request a metric.

MLflow's client asks for every run and metric on its own: a page of timelines takes three times as
long. The address is the one that MLflow's own UI reads from.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

ADDRESS = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
# the server cuts an answer here
MOST_POINTS = 25_000
# with the windows of a timeline, at most 2,000 a run, an answer is whole
RUNS_PER_REQUEST = 12

HistoryPoint = tuple[str, str, int, float, int]


def server_points(uri: str, run_ids: Sequence[str], key: str) -> list[HistoryPoint] | None:
    """Points (run id, metric, step, value, Unix milliseconds) of one metric.

    None where the server does not have the address, or cut its answer. Raises MlflowException where
    it does not answer.
    """
    parameters = [("run_id", run_id) for run_id in run_ids]
    parameters += [("metric_key", key), ("max_results", str(MOST_POINTS))]
    answer = http_request(get_default_host_creds(uri), ADDRESS, "GET", params=parameters)
    if answer.status_code != 200:
        return None
    found = answer.json().get("metrics", [])
    if len(found) >= MOST_POINTS:
        return None
    return [
        (point["run_id"], key, int(point["step"]), float(point["value"]), int(point["timestamp"]))
        for point in found
    ]
