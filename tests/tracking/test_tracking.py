"""The store's side of a trial: one run, every point once, whatever fails in between."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from switokd.spec.tracked_params import params_of
from switokd.spec.trial import TrialSpec
from switokd.tracking import outbox as outbox_module
from switokd.tracking import tracker as tracking
from switokd.tracking.address import StoreError, default_uri, is_local
from switokd.tracking.outbox import Outbox, Point, RefusedError
from switokd.tracking.retry import TrackingError
from switokd.tracking.store import TrackedExperiment
from switokd.tracking.tracker import TrialTracker
from tests.shared_folder import put_empty_store
from tests.tuning.workplace import small_trials


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrackedExperiment:
    folder = tmp_path_factory.mktemp("store")
    return tracking.open_experiment("tracked", put_empty_store(folder / "mlflow.db"), folder)


@pytest.fixture
def trial(request: pytest.FixtureRequest) -> TrialSpec:
    """A trial of its own for each test."""
    seed = sum(map(ord, request.node.name))
    (only,) = small_trials(name="tracked", methods=["dml"], seeds=[seed])
    return only


@pytest.fixture
def tracker(store: TrackedExperiment, trial: TrialSpec) -> Iterator[TrialTracker]:
    tracker = TrialTracker(store, trial)
    yield tracker
    tracker.outbox.close()


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of metrics of every call that carries any; a call for one value fails."""
    sizes: list[int] = []
    log_batch = MlflowClient.log_batch

    def counted(self: MlflowClient, run_id: str, metrics: Any = (), **others: Any) -> Any:
        if metrics:
            sizes.append(len(metrics))
        return log_batch(self, run_id, metrics=metrics, **others)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("one call for one value")

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    monkeypatch.setattr(MlflowClient, "log_metric", refuse)
    monkeypatch.setattr(MlflowClient, "log_param", refuse)
    return sizes


def numbered(count: int, name: str = "gap/T1-S1") -> list[Point]:
    return [Point(name, math.sin(step), step, 1000 + step) for step in range(1, count + 1)]


def run_of(store: TrackedExperiment, trial: TrialSpec) -> Run:
    runs = MlflowClient(store.uri).search_runs(
        [store.experiment_id], f"tags.`switokd.trial_id` = '{trial.trial_id}'"
    )
    assert len(runs) == 1
    return runs[0]


def history(
    store: TrackedExperiment, trial: TrialSpec, name: str = "gap/T1-S1"
) -> list[tuple[int, float]]:
    run_id = run_of(store, trial).info.run_id
    found = MlflowClient(store.uri).get_metric_history(run_id, name)
    return sorted((point.step, point.value) for point in found)


def test_points_go_in_full_batches(
    store: TrackedExperiment, trial: TrialSpec, tracker: TrialTracker, batches: list[int]
) -> None:
    tracker.outbox.add(numbered(2500))
    tracker.outbox.release()
    tracker.begin("cpu", 1)
    tracker.finish([], 60)
    assert batches == [1000, 1000, 500]
    assert history(store, trial) == [(p.step, p.value) for p in numbered(2500)]
    assert run_of(store, trial).info.status == "FINISHED"


def test_points_sent_twice_are_stored_once(
    store: TrackedExperiment, trial: TrialSpec, tracker: TrialTracker
) -> None:
    for _ in range(2):
        again = TrialTracker(store, trial)
        again.outbox.add(numbered(30))
        again.outbox.release()
        again.begin("cpu", 1)
        again.finish([], 60)
    assert history(store, trial) == [(p.step, p.value) for p in numbered(30)]


@pytest.mark.parametrize("status", ["KILLED", "FAILED"])
def test_points_that_no_checkpoint_has_are_never_sent(
    store: TrackedExperiment, trial: TrialSpec, tracker: TrialTracker, status: str
) -> None:
    tracker.outbox.add(numbered(3))
    tracker.outbox.release()
    tracker.outbox.add([Point("gap/T1-S1", 9.0, 4, 1004)])
    tracker.begin("cpu", 1)
    tracker.end(status, "the reason" if status == "FAILED" else None)
    assert history(store, trial) == [(p.step, p.value) for p in numbered(3)]
    run = run_of(store, trial)
    assert run.info.status == status
    assert run.data.tags.get("switokd.failure") == ("the reason" if status == "FAILED" else None)
    assert [point.step for point in tracker.outbox.waiting()] == [4]


def test_a_later_session_continues_the_run_and_forgets_the_failure(
    store: TrackedExperiment, trial: TrialSpec, tracker: TrialTracker, tmp_path: Path
) -> None:
    tracker.begin("cpu", 1)
    tracker.end("FAILED", "diverged")
    failed = run_of(store, trial)
    later = TrialTracker(store, trial)
    later.begin("cpu", 1)
    file = tmp_path / "S1-last.pt"
    file.write_bytes(b"weights")
    assert later.finish([(file, "weights")], 60) == failed.info.run_id
    run = run_of(store, trial)
    assert run.info.status == "FINISHED"
    assert "switokd.failure" not in run.data.tags
    assert run.data.params == params_of(trial)
    copied = MlflowClient(store.uri).download_artifacts(run.info.run_id, "weights/S1-last.pt")
    assert Path(copied).read_bytes() == b"weights"


def test_a_tracker_that_has_not_begun_leaves_the_store_alone(
    store: TrackedExperiment, trial: TrialSpec, tracker: TrialTracker
) -> None:
    tracker.outbox.add(numbered(3))
    tracker.outbox.release()
    tracker.outbox.close()
    assert trial.trial_id not in store.trial_runs()


def test_a_run_deleted_in_the_meantime_ends_the_trial_at_once(
    store: TrackedExperiment, trial: TrialSpec, tracker: TrialTracker
) -> None:
    tracker.begin("cpu", 1)
    tracker.outbox.drain(time.monotonic() + 60)
    MlflowClient(store.uri).delete_run(run_of(store, trial).info.run_id)
    tracker.outbox.add(numbered(3))
    tracker.outbox.release()
    with pytest.raises(TrackingError, match="active"):
        tracker.finish([], 600)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///", "is a folder"),
        ("sqlite:///FOLDER", "is a folder"),
        ("FOLDER", "no folder store"),
        ("nonsense://x", "is no tracking store"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9 does not answer"),
        ("postgresql://127.0.0.1:9/mlflow", "127.0.0.1:9 does not answer"),
        ("http://bob:hunter2@127.0.0.1:9", "holds a password for 127.0.0.1"),
        ("postgresql://h/mlflow?user=bob&Password=hunter2", "holds a password for h,"),
    ],
)
def test_an_address_that_no_store_can_have_is_told_at_once(
    tmp_path: Path, uri: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def client(_: str) -> None:
        raise AssertionError("MLflow would try for minutes")

    monkeypatch.setattr("mlflow.MlflowClient", client)
    with pytest.raises(StoreError, match=told) as error:
        tracking.open_experiment("tracked", uri.replace("FOLDER", str(tmp_path)), tmp_path)
    assert "hunter2" not in str(error.value)


def test_a_tag_holds_the_newest_entries_whole() -> None:
    entries = [{"epoch": epoch, "donor": "0123456789ab"} for epoch in range(1000)]
    kept = json.loads(tracking.as_tag(entries))
    assert 100 < len(kept) < 1000
    assert kept == entries[-len(kept) :]
    assert json.loads(tracking.as_tag(entries[:3])) == entries[:3]


def test_an_experiment_deleted_in_mlflow_is_not_written_to(
    tmp_path: Path, store: TrackedExperiment
) -> None:
    client = MlflowClient(store.uri)
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        tracking.open_experiment("gone", store.uri, tmp_path)


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("sqlite:////a/mlflow.db", True),
        ("file:///a/mlruns", True),
        ("mlruns", True),
        ("http://127.0.0.1:5000", False),
        ("postgresql://user@host/mlflow", False),
    ],
)
def test_which_stores_only_this_machine_sees(uri: str, local: bool) -> None:
    assert is_local(uri) == local


def test_a_relative_sqlite_path_is_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///here/mlflow.db")
    assert default_uri() == f"sqlite:///{tmp_path}/here/mlflow.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert default_uri() == f"sqlite:///{tmp_path}/runs/mlflow.db"


class FlakyStore:
    """Takes points while `works()`; remembers what it took."""

    def __init__(self, works: Callable[[int], Exception | None]) -> None:
        self.works = works
        self.calls = 0
        self.taken: list[Point] = []

    def send(self, batch: list[Point]) -> None:
        self.calls += 1
        if error := self.works(self.calls):
            raise error
        self.taken += batch


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(outbox_module, "LONGEST_PAUSE_SECONDS", 0.002)


@pytest.mark.usefixtures("_impatient")
def test_points_wait_for_a_silent_store_and_arrive_in_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = FlakyStore(lambda call: None if call > 5 else ConnectionError("refused"))
    outbox = Outbox(store.send, 10, "the store")
    outbox.add(numbered(25))
    outbox.release()
    outbox.start()
    with pytest.raises(TimeoutError):
        outbox.drain(time.monotonic())
    assert len(outbox.waiting()) == 25
    outbox.drain(time.monotonic() + 30)
    outbox.close()
    assert store.taken == numbered(25)
    assert not outbox.waiting()
    assert caplog.text.count("does not answer") == 1
    assert caplog.text.count("answers again") == 1


@pytest.mark.usefixtures("_impatient")
def test_one_call_that_fails_is_no_silence(caplog: pytest.LogCaptureFixture) -> None:
    store = FlakyStore(lambda call: ConnectionError("locked") if call in (2, 4) else None)
    outbox = Outbox(store.send, 10, "the store")
    outbox.add(numbered(25))
    outbox.release()
    outbox.start()
    outbox.drain(time.monotonic() + 30)
    outbox.close()
    assert store.taken == numbered(25)
    assert not caplog.text


class NotedPauses(threading.Condition):
    """Notes how long it should wait for what may come meanwhile, and waits not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        if timeout is None:
            return super().wait_for(predicate)
        self.seconds += [timeout] if timeout else []
        return predicate()


def test_pauses_grow_to_a_limit_and_begin_anew_after_an_answer() -> None:
    store = FlakyStore(lambda call: None if call in (8, 9) or call > 11 else ConnectionError())
    outbox = Outbox(store.send, 10, "the store")
    pauses = outbox._changed = NotedPauses()
    outbox.add(numbered(25))
    outbox.release()
    outbox.start()
    while outbox.waiting():
        outbox._thread.join(0.001)
    outbox.close()
    assert pauses.seconds == [0.5, 1, 2, 4, 8, 15, 15, 0.5, 1]


@pytest.mark.usefixtures("_impatient")
def test_a_refusal_is_final() -> None:
    store = FlakyStore(lambda call: RefusedError("no") if call == 2 else None)
    outbox = Outbox(store.send, 10, "the store")
    outbox.add(numbered(25))
    outbox.release()
    outbox.start()
    with pytest.raises(RefusedError):
        outbox.drain(time.monotonic() + 600)
    outbox.close()
    assert store.calls == 2
    assert outbox.waiting() == numbered(25)[10:]


def test_training_does_not_wait_for_a_slow_store() -> None:
    gate = threading.Event()
    store = FlakyStore(lambda _: None if gate.wait(30) else TimeoutError())
    outbox = Outbox(store.send, 10, "the store")
    outbox.start()
    for point in numbered(1000):
        outbox.add([point])
        outbox.release()
    # all are added before the store has taken one
    assert len(outbox.waiting()) == 1000
    gate.set()
    outbox.drain(time.monotonic() + 30)
    outbox.close()
    assert store.taken == numbered(1000)


def test_training_one_trial_leaves_a_sweep_at_work_running(store: TrackedExperiment) -> None:
    client = MlflowClient(store.uri)
    alone = tracking.open_sweep(store, "tracked", reopen=False).sweep_run_id
    assert client.get_run(alone).info.status == "FINISHED"
    assert tracking.open_sweep(store, "tracked").sweep_run_id == alone
    assert client.get_run(alone).info.status == "RUNNING"
    tracking.open_sweep(store, "tracked", reopen=False)
    assert client.get_run(alone).info.status == "RUNNING"
