"""What is read of a store: the right run, every point, and errors that say what was asked for."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from switokd.spec.trial import TrialSpec
from switokd.tracking import retry, store
from switokd.tracking.address import StoreError
from switokd.tracking.retry import SilentStoreError, TrackingError, retry_until
from switokd.tracking.store import (
    NEWEST_FIRST,
    OLDEST_FIRST,
    MissingArtifactError,
    TrackedExperiment,
    TrackingStore,
)
from switokd.tracking.tracker import TrialTracker, open_experiment, open_sweep
from tests.shared_folder import put_empty_store
from tests.tuning.workplace import small_trials


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> TrackedExperiment:
    folder = tmp_path_factory.mktemp("store")
    return open_experiment("read", put_empty_store(folder / "mlflow.db"), folder)


@pytest.fixture
def reader(tracked: TrackedExperiment) -> TrackingStore:
    return TrackingStore(tracked.uri)


@pytest.fixture
def client(tracked: TrackedExperiment) -> MlflowClient:
    return MlflowClient(tracked.uri)


def leave_run(client: MlflowClient, tracked: TrackedExperiment, trial_id: str, start: int) -> str:
    tags = {"switokd.trial_id": trial_id}
    return str(client.create_run(tracked.experiment_id, start, tags).info.run_id)


def trial() -> TrialSpec:
    return small_trials(name="read", methods=["dml"])[0]


def refuse(*_: Any, **__: Any) -> None:
    raise MlflowException("not for you", error_code=PERMISSION_DENIED)


def test_mlflow_is_imported_here_alone() -> None:
    root = Path(__file__).parents[2]
    importing = {
        path.relative_to(root).parent.as_posix()
        for package in ("switokd", "tuning", "dashboards")
        for path in (root / package).rglob("*.py")
        if re.search(r"^\s*(import|from) mlflow\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert importing == {"switokd/tracking"}


def test_a_trials_run_is_the_newest_and_the_sweeps_is_none_of_them(
    tracked: TrackedExperiment, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = open_sweep(tracked, "read").sweep_run_id
    older, newer = (leave_run(client, tracked, "twice", start) for start in (1000, 2000))
    other = leave_run(client, tracked, "once", 1500)
    # more runs than fit on a page
    monkeypatch.setattr(store, "PAGE", 2)
    found = {key: run.info.run_id for key, run in tracked.trial_runs().items()}
    assert list(found.items()) == [("twice", newer), ("once", other)]
    run = tracked.trial_run("twice")
    assert run is not None
    assert run.info.run_id == newer
    assert tracked.trial_run("never") is None
    run = tracked.sweep_run("read")
    assert run is not None
    assert run.info.run_id == sweep
    reader = TrackingStore(tracked.uri)
    in_order = [run.info.run_id for run in reader.runs([tracked.experiment_id])]
    assert in_order.index(older) < in_order.index(other) < in_order.index(newer)
    assert list(reader.runs([])) == []


def test_histories_are_what_mlflow_itself_reads(
    tracked: TrackedExperiment, client: MlflowClient, reader: TrackingStore
) -> None:
    run_ids = [leave_run(client, tracked, name, 1) for name in ("long", "short")]
    for step, value in [(1, 0.5), (3, math.nan), (2, 0.25)]:
        client.log_metric(run_ids[0], "val_loss/S1", value, timestamp=1000, step=step)
    client.log_metric(run_ids[1], "val_loss/S1", 2.0, timestamp=1000, step=1)
    client.log_metric(run_ids[1], "gap/T1-S1", 9.0, timestamp=1000, step=1)
    expected = [
        (run_id, "val_loss/S1", point.step, repr(point.value), point.timestamp)
        for run_id in run_ids
        for point in client.get_metric_history(run_id, "val_loss/S1")
    ]
    found = reader.histories(run_ids, ["val_loss/S1", "nothing"])
    assert sorted((*point[:3], repr(point[3]), point[4]) for point in found) == sorted(expected)
    assert len(found) == 4


def test_files_are_listed_read_and_copied(
    tracked: TrackedExperiment, client: MlflowClient, reader: TrackingStore, tmp_path: Path
) -> None:
    run_id = leave_run(client, tracked, "files", 1)
    client.log_text(run_id, "one", "weights/S1-best.pt")
    client.log_text(run_id, "two", "spec.yaml")
    assert reader.artifacts(run_id) == ["spec.yaml"]
    assert reader.artifacts(run_id, "weights") == ["weights/S1-best.pt"]
    assert reader.artifact(run_id, "weights/S1-best.pt") == b"one"
    assert reader.download(run_id, "spec.yaml").read_text() == "two"
    with pytest.raises(MissingArtifactError, match=f"run {run_id} has no artifact weights/T1"):
        reader.artifact(run_id, "weights/T1-best.pt")


def test_an_error_names_the_run_or_the_store(
    reader: TrackingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ask in (reader.run, reader.artifacts):
        with pytest.raises(TrackingError, match=r"run 'nowhere' in sqlite:.*not found"):
            ask("nowhere")
    monkeypatch.setattr(MlflowClient, "search_experiments", refuse)
    with pytest.raises(StoreError, match=r"store sqlite:.* cannot be used: not for you"):
        reader.experiments()


def test_a_store_that_refuses_to_be_read_ends_the_trial_at_once(
    tracked: TrackedExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MlflowClient, "search_runs", refuse)
    tracker = TrialTracker(tracked, trial())
    tracker.begin("cpu", 1)
    with pytest.raises(TrackingError, match="not for you") as error:
        tracker.finish([], 600)
    tracker.outbox.close()
    assert not isinstance(error.value, SilentStoreError)
    assert str(error.value).count(tracked.uri) == 1


def test_what_may_pass_is_tried_again_and_named_once(
    tracked: TrackedExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            self.now += seconds

    def silent(*_: Any, **__: Any) -> None:
        calls.append(clock.now)
        raise ConnectionError("refused")

    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 1.0)
    monkeypatch.setattr(retry, "LONGEST_PAUSE_SECONDS", 4.0)
    monkeypatch.setattr(MlflowClient, "search_runs", silent)
    with pytest.raises(SilentStoreError, match="refused") as error:
        retry_until(16.0, tracked.running, tracked.uri)
    assert calls == [0, 1, 3, 7, 11, 15]
    assert str(error.value).count(tracked.uri) == 1
    tracker = TrialTracker(tracked, trial())
    tracker.begin("cpu", 1)
    with pytest.raises(SilentStoreError, match="refused") as error:
        tracker.finish([], 1)
    tracker.outbox.close()
    assert str(error.value).count(tracked.uri) == 1


def test_runs_of_a_file_are_what_the_client_gives(tmp_path: Path) -> None:
    uri = put_empty_store(tmp_path / "mlflow.db")
    mine = open_experiment("mine", uri, tmp_path)
    other = open_experiment("other", uri, tmp_path)
    client = MlflowClient(uri)
    for number, (tracked, status) in enumerate(
        [(mine, "FINISHED"), (other, "FAILED"), (mine, "RUNNING"), (mine, "KILLED")]
    ):
        # two began at the same time
        run_id = leave_run(client, tracked, f"trial{number}", start=100 - number // 2)
        client.log_param(run_id, "recipe.epochs", str(number))
        for step in (1, 2):
            client.log_metric(run_id, "top1", 10.0 * step + number, 1000 + step, step)
        client.log_metric(run_id, "odd", math.nan if number else math.inf, 7, 3)
        client.set_terminated(run_id, status) if status != "RUNNING" else None
    client.delete_run(leave_run(client, mine, "deleted", start=1))
    store_reader = TrackingStore(uri)
    for ids in ([mine.experiment_id], [other.experiment_id, mine.experiment_id]):
        for order in (OLDEST_FIRST, NEWEST_FIRST):
            expected = client.search_runs(ids, order_by=[f"attributes.{order}"])
            found = list(store_reader.runs(ids, order=order))
            assert [run.info.run_id for run in found] == [run.info.run_id for run in expected]
            for one, two in zip(found, expected, strict=True):
                for name in one.info._fields:
                    assert getattr(one.info, name) == getattr(two.info, name)
                assert (one.data.params, one.data.tags) == (two.data.params, two.data.tags)
                assert {k: repr(v) for k, v in one.data.metrics.items()} == {
                    k: repr(v) for k, v in two.data.metrics.items()
                }
    assert list(store_reader.runs([])) == []


def test_running_trials_alone_are_asked_for(tracked: TrackedExperiment) -> None:
    client = MlflowClient(tracked.uri)
    ended = leave_run(client, tracked, "ended", 1)
    client.set_terminated(ended, "FINISHED")
    going_on = leave_run(client, tracked, "going on", 2)
    assert tracked.running()["going on"].info.run_id == going_on
    assert "ended" not in tracked.running()
    assert "ended" in tracked.trial_runs()
