"""Folders that share a tracking store: one sweep at a time, and one run a trial."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from switokd import names
from switokd.files.lock import HeldError
from switokd.tracking import holder as holder_module
from switokd.tracking import tracker as tracking
from switokd.tracking.holder import Holder
from switokd.tracking.outbox import Point
from switokd.tracking.store import TrackedExperiment
from switokd.tracking.tracker import TrialTracker
from tests.tuning.workplace import small_trials

pytestmark = pytest.mark.slow

HOLD = """
import sys, time
from pathlib import Path
from switokd.tracking.holder import Holder
from switokd.tracking.store import TrackedExperiment
with Holder("shared", Path(sys.argv[3]), sys.argv[4] or None) as holder:
    holder.claim(TrackedExperiment(sys.argv[1], sys.argv[2]))
    print("held", flush=True)
    sys.stdin.read(1)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrackedExperiment:
    folder = tmp_path_factory.mktemp("store")
    tracked = tracking.open_experiment("shared", f"sqlite:///{folder / 'mlflow.db'}", folder)
    return tracking.open_sweep(tracked, "shared")


def holder_elsewhere(
    store: TrackedExperiment, trial: str = "", folder: Path = Path("/elsewhere/shared")
) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, store.uri, store.experiment_id, str(folder), trial],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def tag_of(store: TrackedExperiment) -> str | None:
    run = store.sweep_run("shared")
    assert run is not None
    tag: str | None = run.data.tags.get(names.HOLDER)
    return tag


def test_a_trial_is_trained_by_one_wherever_it_is(store: TrackedExperiment, tmp_path: Path) -> None:
    told = f"trial abc of 'shared' is trained already: .*, in {re.escape(str(tmp_path))}"
    first = holder_elsewhere(store, "abc", tmp_path)
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(HeldError, match=told), Holder("shared", elsewhere, "abc") as second:
        second.claim(store)
    # another trial of the experiment is no matter of its
    with Holder("shared", elsewhere, "abd") as other:
        other.claim(store)
    # a sweep elsewhere would train it too; one of its own folder finds it locked
    with pytest.raises(HeldError, match=told), Holder("shared", elsewhere) as sweep:
        sweep.claim(store)
    with Holder("shared", tmp_path) as sweep:
        sweep.claim(store)
    first.kill()
    first.wait()
    with Holder("shared", elsewhere, "abc") as second:
        second.claim(store)
    left = store.sweep_run("shared")
    assert left is not None
    assert not [tag for tag in left.data.tags if tag.startswith(names.HOLDER)]


def test_who_trains_one_trial_makes_way_for_a_sweep_elsewhere(
    store: TrackedExperiment, tmp_path: Path
) -> None:
    sweep = holder_elsewhere(store)
    told = "a sweep of 'shared' is at work already"
    with pytest.raises(HeldError, match=told), Holder("shared", tmp_path, "abc") as alone:
        alone.claim(store)
    # in its own folder the trial's lock tells
    with Holder("shared", Path("/elsewhere/shared"), "abc") as alone:
        alone.claim(store)
    sweep.communicate("x")
    with Holder("shared", tmp_path, "abc") as alone:
        alone.claim(store)
    assert tag_of(store) is None


def test_who_comes_second_is_told_of_the_first_until_that_has_died(
    store: TrackedExperiment, tmp_path: Path
) -> None:
    first = holder_elsewhere(store)
    told = f"process {first.pid} on host {socket.gethostname()}, in /elsewhere/shared"
    with pytest.raises(HeldError, match=told), Holder("shared", tmp_path) as second:
        second.claim(store)
    assert json.loads(tag_of(store) or "null")["pid"] == first.pid
    first.kill()
    first.wait()
    with Holder("shared", tmp_path) as second:
        second.claim(store)
        assert json.loads(tag_of(store) or "null")["pid"] == os.getpid()
        # a process that became a new program is the same holder
        with Holder("shared", tmp_path) as again:
            again.claim(store)
    assert tag_of(store) is None


@pytest.mark.parametrize("beats", [True, False])
def test_a_holder_on_another_host_lives_as_long_as_it_beats(
    store: TrackedExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beats: bool
) -> None:
    client, run_id = MlflowClient(store.uri), str(store.sweep_run_id)
    other = {"host": "far", "boot": "b", "pid": 7, "born": "1", "folder": "/far", "beat": 1.0}
    client.set_tag(run_id, names.HOLDER, json.dumps(other))
    monkeypatch.setattr(holder_module, "DEAD_SECONDS", 3.0)

    def pause(_: float) -> None:
        if beats:
            client.set_tag(run_id, names.HOLDER, json.dumps(other | {"beat": 2.0}))

    monkeypatch.setattr(holder_module.time, "sleep", pause)
    with Holder("shared", tmp_path) as second:
        if beats:
            with pytest.raises(HeldError, match="process 7 on host far, in /far"):
                second.claim(store)
        else:
            second.claim(store)
    client.delete_tag(run_id, names.HOLDER) if beats else None


def test_of_two_that_claim_at_once_the_later_one_goes_on(
    store: TrackedExperiment, tmp_path: Path
) -> None:
    with Holder("shared", tmp_path) as first:
        first.claim(store)
        other = {"host": "far", "boot": "b", "pid": 7, "born": "1", "folder": "/far", "beat": 1.0}
        MlflowClient(store.uri).set_tag(str(store.sweep_run_id), names.HOLDER, json.dumps(other))
        with pytest.raises(HeldError, match="process 7 on host far"):
            first.confirm()
        assert first.displaced
    assert json.loads(tag_of(store) or "null")["host"] == "far"
    MlflowClient(store.uri).delete_tag(str(store.sweep_run_id), names.HOLDER)


def test_a_trial_without_its_checkpoints_gets_a_run_of_its_own(store: TrackedExperiment) -> None:
    """No step twice: the points that the store has would be made a second time."""
    (trial,) = small_trials(name="shared", methods=["dml"])
    run_ids = []
    for anew, made_at in ((True, 1000), (False, 1000), (True, 2000)):
        tracker = TrialTracker(store, trial)
        tracker.begin("cpu", 1, anew=anew)
        tracker.outbox.add([Point("gap/T1-S1", 0.5, 1, made_at)])
        tracker.outbox.release()
        run_ids.append(tracker.finish([], 60))
    assert run_ids[0] == run_ids[1] != run_ids[2]
    client = MlflowClient(store.uri)
    assert client.get_run(run_ids[0]).info.lifecycle_stage == "deleted"
    assert len(client.get_metric_history(run_ids[2], "gap/T1-S1")) == 1
