"""A real MLflow server that goes away in mid-sweep, and one that takes its time."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from switokd.session.trial_session import open_session
from switokd.tracking import outbox
from switokd.tracking.tracker import TrialTracker, open_experiment
from switokd.training.timeline import window_size
from tests.processes import await_
from tests.tuning.mlflow_server import Server
from tests.tuning.workplace import Workplace, small_experiment, small_trials

pytestmark = pytest.mark.slow

SLOW_SECONDS = 0.7


@pytest.fixture(scope="module")
def slow_uri(server: Server) -> Iterator[str]:
    """The address of a proxy before the server that keeps every call waiting."""

    class Slow(BaseHTTPRequestHandler):
        def forward(self) -> None:
            time.sleep(SLOW_SECONDS)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            upstream.request(self.command, self.path, body, dict(self.headers))
            answer = upstream.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.getheader("Content-Type", "text/plain"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = forward  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{proxy.server_port}"
    proxy.shutdown()


def assert_complete(workplace: Workplace, name: str) -> None:
    """Every trial finished once, its windows as the timeline has them."""
    runs = workplace.trial_runs(name)
    assert {run.info.status for run in workplace.runs(name)} == {"FINISHED"}
    for run in runs.values():
        series = workplace.series(run)
        epochs = int(run.data.params["recipe.epochs"])
        assert list(series["val_top1/S1"]) == list(range(1, epochs + 1))
        path = workplace.client.download_artifacts(run.info.run_id, "timeline.parquet")
        timeline = pd.read_parquet(path)
        assert window_size(len(timeline)) == 1
        gaps = dict(zip(timeline["step"], timeline["gap"].astype(float), strict=True))
        assert series["gap/T1-S1"] == pytest.approx(gaps, rel=1e-6)


def assert_another_folder_is_refused(workplace: Workplace, pid: int, folder: Path) -> None:
    """Who comes second, to sweep or to train one trial, is told of the first; nothing is begun."""
    other = Workplace(folder, MLFLOW_TRACKING_URI=workplace.environment["MLFLOW_TRACKING_URI"])
    content = yaml.safe_load(workplace.file.read_text())
    (trial, *_) = other.write(content).trials
    host = socket.gethostname()
    told = f"process {pid} on host {host}, in {workplace.folder / 'runs' / content['name']}"
    for command in (["sweep"], ["train", "--trial", trial.trial_id]):
        output = other.start(*command, other.file.name).ended(2)
        assert told in output
    assert len(workplace.trial_runs(content["name"])) == 2


def test_an_outage_delays_points_and_stops_no_training(
    tmp_path_factory: pytest.TempPathFactory, server: Server, shared_ray: dict[str, str]
) -> None:
    folder = tmp_path_factory.mktemp("outage")
    workplace = Workplace(folder, MLFLOW_TRACKING_URI=server.uri, **shared_ray)
    content = small_experiment(
        name="outage",
        methods=["dml", "switokd"],
        recipe={"epochs": 4},
        resources={"checkpoint_seconds": 0.5},
    )
    trials = workplace.write(content).trials
    workplace.let(2, *trials)
    sweep = workplace.start("sweep", workplace.file.name)
    await_(lambda: all(map(workplace.held, trials)), of=sweep)
    assert_another_folder_is_refused(workplace, sweep.pid, tmp_path_factory.mktemp("other"))
    server.stop()
    before = {path for trial in trials for path in workplace.checkpoints(trial)}
    workplace.let(None, *trials)
    try:
        for trial in trials:
            # training goes on to its end while nobody answers
            await_(lambda t=trial: set(workplace.checkpoints(t)) - before, of=sweep)
            await_((workplace.trial_folder(trial) / "timeline.parquet").exists, of=sweep)
        assert sweep.poll() is None
    finally:
        server.start()
    output = sweep.ended(timeout=120)
    assert "does not answer" in output
    assert_complete(workplace, "outage")


def test_a_trial_begins_while_nobody_answers(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LONGEST_PAUSE_SECONDS", 0.5)
    (trial,) = small_trials(name="away", methods=["switokd"])
    tracked = open_experiment("away", server.uri, tmp_path)
    server.stop()
    try:
        tracker = TrialTracker(tracked, trial)
        with open_session(trial, runs=tmp_path, tracker=tracker, threads=1) as session:
            for _ in session.epochs():
                pass
            server.start()
            result = session.finish()
    finally:
        if not server.answers():
            server.start()
    (run,) = tracked.trial_runs().values()
    assert (run.info.run_id, run.info.status) == (result.run_id, "FINISHED")
    client = MlflowClient(server.uri)
    gaps = client.get_metric_history(run.info.run_id, "gap/T1-S1")
    told = {point.step: point.value for point in gaps}
    recorded = session.trainer.timeline.switch(("T1", "S1"))["gap"]
    assert told == pytest.approx(dict(enumerate(map(float, recorded), start=1)), rel=1e-6)
    assert len(gaps) == len(told)


def test_a_slow_server_only_costs_its_own_time(
    tmp_path_factory: pytest.TempPathFactory, server: Server, slow_uri: str
) -> None:
    workplace = Workplace(tmp_path_factory.mktemp("slow"), MLFLOW_TRACKING_URI=slow_uri)
    content = small_experiment(
        name="slow", methods=["switokd"], resources={"checkpoint_seconds": 0.2}
    )
    workplace.write(content)
    workplace.start("train", workplace.file.name).ended()
    workplace.environment["MLFLOW_TRACKING_URI"] = server.uri
    assert_complete(workplace, "slow")
