"""One trial's life on real data: stopped, continued, cut short, and never counted twice."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from switokd import names
from switokd.files.lock import HeldError
from switokd.session.trial_session import TrialResult, TrialSession, open_session
from switokd.spec.trial import TrialSpec
from switokd.tracking import tracker as tracking
from switokd.tracking.tracker import TrialTracker
from switokd.validation import DataError
from tests.cohorts import same_bits, weights_of
from tests.processes import next_line
from tests.session.killed_trials import assert_equal_results
from tests.session.test_checkpoint import files_limited_to
from tests.shared_folder import put_empty_store
from tests.tuning.workplace import small_trials


def trial(**changes: Any) -> TrialSpec:
    """Two networks, two epochs of six steps, on some digits shrunk to 4 x 4."""
    recipe = {"epochs": 2, "batch_size": 100, "train_images": 600, "image_size": 4}
    changes["recipe"] = recipe | changes.get("recipe", {})
    (only,) = small_trials(name="session", methods=["switokd"], **changes)
    return only


def finish(opened: AbstractContextManager[TrialSession], begins_at: int = 0) -> TrialResult:
    with opened as session:
        assert session.trainer.step == begins_at
        for _ in session.epochs():
            pass
        return session.finish()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> TrialResult:
    torch.set_num_threads(1)
    return finish(open_session(trial(), runs=tmp_path_factory.mktemp("whole"), threads=1))


def test_stopped_in_mid_epoch_it_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, undisturbed: TrialResult
) -> None:
    for expected_steps in (1, 2, 3):
        with open_session(trial(), runs=tmp_path, threads=1) as session:
            session.advance(seconds=0.0)
            assert session.trainer.step == expected_steps
    # what is lost with a crash is trained again, not counted again
    with suppress(KeyboardInterrupt), open_session(trial(), runs=tmp_path, threads=1) as lost:
        lost.advance()
        raise KeyboardInterrupt
    assert_equal_results(finish(open_session(trial(), runs=tmp_path), 3), undisturbed)


def test_an_older_checkpoint_sends_no_step_twice(tmp_path: Path) -> None:
    """The newest is damaged, or lies in the folder of another machine that went on."""
    store = tracking.open_experiment("session", put_empty_store(tmp_path / "mlflow.db"), tmp_path)

    def opened() -> AbstractContextManager[TrialSession]:
        return open_session(trial(), runs=tmp_path, tracker=TrialTracker(store, trial()), threads=1)

    with opened() as session:
        # an epoch and a step; a checkpoint at the end of the block
        session.advance()
        session.advance(seconds=0.0)
    with opened() as session:
        session.advance()
        assert session.done
    newest = session.folder / "checkpoints" / session.checkpoints.names()[0]
    newest.unlink()
    finish(opened(), begins_at=7)
    run = store.trial_runs()[trial().trial_id]
    client = MlflowClient(store.uri)
    steps = {
        name: [point.step for point in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    assert sorted(steps["gap/T1-S1"]) == list(range(1, 13))
    assert sorted(steps["val_top1/S1"]) == [1, 2]
    assert not {name: found for name, found in steps.items() if len(found) > len(set(found))}


def test_a_full_disk_costs_checkpoints_but_no_training(
    tmp_path: Path, undisturbed: TrialResult, caplog: pytest.LogCaptureFixture
) -> None:
    spec = trial(resources={"checkpoint_seconds": 0.0})
    with open_session(spec, runs=tmp_path, threads=1) as session:
        session.advance(seconds=0.0)
        saved = session.checkpoints.names()
        with files_limited_to(1000), caplog.at_level(logging.WARNING):
            assert session.advance() is not None
        assert session.trainer.epoch == 1
        assert "no checkpoint at step 2" in caplog.text
        assert session.checkpoints.names() == saved
        session.advance()
        result = session.finish()
    assert_equal_results(result, undisturbed)


def test_a_disk_that_is_full_at_the_end_is_made_up_for_by_the_next_call(
    tmp_path: Path, undisturbed: TrialResult
) -> None:
    store = tracking.open_experiment("session", put_empty_store(tmp_path / "mlflow.db"), tmp_path)

    spec = trial(resources={"checkpoint_seconds": 0.0})

    def opened() -> AbstractContextManager[TrialSession]:
        return open_session(spec, runs=tmp_path, tracker=TrialTracker(store, spec), threads=1)

    def end_on_a_full_disk() -> None:
        with opened() as session:
            for _ in session.epochs():
                pass
            # the store and the trial's files lie on the same disk
            with files_limited_to(1000):
                session.finish(patience_seconds=0.0)

    with pytest.raises(OSError, match="File too large"):
        end_on_a_full_disk()
    run = store.trial_runs()[spec.trial_id]
    assert run.info.status == "FAILED"
    assert "File too large" in run.data.tags[names.FAILURE]
    result = finish(opened(), begins_at=11)
    for name, network in undisturbed.networks.items():
        assert same_bits(weights_of(result.networks[name]), weights_of(network))
    failed, run = run, store.trial_runs()[spec.trial_id]
    assert (run.info.run_id, run.info.status) == (failed.info.run_id, "FINISHED")
    assert names.FAILURE not in run.data.tags
    client = MlflowClient(store.uri)
    for name in run.data.metrics:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
        assert len(steps) == len(set(steps)), name
    gaps = client.get_metric_history(run.info.run_id, "gap/T1-S1")
    assert sorted(point.step for point in gaps) == list(range(1, 13))


def test_a_resumed_trial_keeps_its_number_of_threads(tmp_path: Path) -> None:
    with open_session(trial(), runs=tmp_path, threads=1) as session:
        session.advance(seconds=0.0)
    with open_session(trial(), runs=tmp_path, threads=2) as session:
        assert session.state.threads == torch.get_num_threads() == 1


def test_a_trial_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        open_session(trial(), runs=tmp_path),
        pytest.raises(HeldError, match=str(os.getpid())),
        open_session(trial(), runs=tmp_path),
    ):
        pass
    with open_session(trial(), runs=tmp_path):
        pass


def test_a_session_that_cannot_begin_lets_go_of_its_trial(tmp_path: Path) -> None:
    missing = trial(dataset={"name": "image_folder", "path": str(tmp_path / "none")})
    for _ in range(2):
        with (
            pytest.raises(DataError, match="none"),
            open_session(missing, runs=tmp_path),
        ):
            pass


RUN = """
import sys
from pathlib import Path
from switokd.spec.trial import TrialSpec
from switokd.train import run
from switokd.training.trainer import Trainer

train_step = Trainer.train_step

def step(trainer, images, targets, indices):
    if trainer.step == HELD_AT:
        print(trainer.step, flush=True)
        sys.stdin.read()
    return train_step(trainer, images, targets, indices)

Trainer.train_step = step
run(TrialSpec.model_validate_json(sys.argv[1]), runs=Path(sys.argv[2]), threads=1)
"""
HELD_AT_STEP = 8


@pytest.mark.slow
def test_kill_9_in_mid_epoch_and_resume_is_one_undisturbed_run(
    tmp_path: Path, undisturbed: TrialResult
) -> None:
    spec = trial(resources={"checkpoint_seconds": 0.0})
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"HELD_AT = {HELD_AT_STEP}\n{RUN}",
            spec.model_dump_json(),
            tmp_path,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert next_line(process) == f"{HELD_AT_STEP}\n"
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    with open_session(trial(), runs=tmp_path) as session:
        begun_at = session.trainer.step
        assert begun_at == HELD_AT_STEP
    assert_equal_results(finish(open_session(trial(), runs=tmp_path), begun_at), undisturbed)


def test_a_trial_stopped_on_its_holdout_counts_as_finished_and_says_so(tmp_path: Path) -> None:
    """A student that hardly moves gets no better; the test set is scored all the same."""
    still = {"epochs": 8, "learning_rate": 1e-9, "holdout": 0.2, "patience": 1}
    stopped = trial(recipe=still)
    store = tracking.open_experiment("session", put_empty_store(tmp_path / "mlflow.db"), tmp_path)
    tracker = TrialTracker(store, stopped)
    result = finish(open_session(stopped, runs=tmp_path, tracker=tracker, threads=1))
    run = store.trial_runs()[stopped.trial_id]
    epochs = len(MlflowClient(store.uri).get_metric_history(run.info.run_id, "val_top1/S1"))
    assert 1 < epochs < 8
    assert run.info.status == "FINISHED"
    assert run.data.tags["switokd.stopped"] == f"epoch {epochs}: none better in 1"
    timeline = pd.read_parquet(result.folder / "timeline.parquet")
    assert timeline["epoch"].max() == epochs
    gaps = MlflowClient(store.uri).get_metric_history(run.info.run_id, "gap/T1-S1")
    assert max(gap.step for gap in gaps) == timeline["step"].max()
    assert {"test_top1/S1", "test_top1_best/S1"} <= result.metrics.keys()
