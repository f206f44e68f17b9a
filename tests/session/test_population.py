"""A member of a population takes over another's networks; a scheduler ends a trial early."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from switokd import names
from switokd.session.trial_session import TrialSession, open_session
from switokd.spec.tracked_params import params_of
from switokd.spec.trial import TrialSpec
from switokd.tracking import tracker as tracking
from switokd.tracking.store import TrackedExperiment
from switokd.tracking.tracker import TrialTracker
from tests.session.test_session import trial
from tests.shared_folder import put_empty_store

pytestmark = pytest.mark.slow

STEPS = 6


def member(rate: float, temperature: float = 1.0) -> TrialSpec:
    recipe = {"epochs": 4, "learning_rate": rate, "milestones": [3]}
    return trial(recipe=recipe, temperatures=[temperature])


@pytest.fixture
def store(tmp_path: Path) -> TrackedExperiment:
    return tracking.open_experiment("session", put_empty_store(tmp_path / "mlflow.db"), tmp_path)


def begin(
    spec: TrialSpec, tmp_path: Path, store: TrackedExperiment | None = None
) -> AbstractContextManager[TrialSession]:
    tracker = TrialTracker(store, spec) if store else None
    return open_session(spec, runs=tmp_path, tracker=tracker, threads=1)


def advance(session: TrialSession, epochs: int) -> None:
    for _ in range(epochs):
        assert session.advance() is not None


def leave_donor(tmp_path: Path, epochs: int) -> dict[str, Any]:
    with begin(member(0.05), tmp_path) as donor:
        advance(donor, epochs)
        donor.checkpoint()
        return donor.trainer.state_dict()


def test_a_member_goes_on_from_the_donors_networks_in_its_own_place(
    tmp_path: Path, store: TrackedExperiment
) -> None:
    theirs = leave_donor(tmp_path, 2)
    own, changed = member(0.01), member(0.04, temperature=2.0)
    with begin(own, tmp_path, store) as session:
        advance(session, 1)
        best = session.trainer.best["S1"]
        session.take_over(member(0.05).trial_id, changed, {"recipe.learning_rate": 0.04})
        trainer = session.trainer
        assert (trainer.epoch, trainer.step) == (1, STEPS)
        assert trainer.best["S1"].top1 == best.top1
        assert trainer.method.temperature == 2.0
        for name, network in trainer.networks.items():
            for key, tensor in network.state_dict().items():
                assert torch.equal(tensor, theirs["networks"][name][key]), (name, key)
            momenta = trainer.optimizers[name].state_dict()["state"]
            expected = theirs["optimizers"][name]["state"]
            assert torch.equal(momenta[0]["momentum_buffer"], expected[0]["momentum_buffer"])
        advance(session, 1)
    # a later process goes on under the changed settings, with its own epochs
    with begin(own, tmp_path, store) as session:
        assert session.changed_values == {"recipe.learning_rate": 0.04}
        assert session.trainer.epoch == 2
        assert session.trainer.method.temperature == 2.0
        advance(session, 2)
        run_id = session.finish().run_id
    assert run_id is not None
    client = MlflowClient(store.uri)
    history = {m.step: m.value for m in client.get_metric_history(run_id, "lr/S1")}
    # a tenth from the milestone on
    assert history == pytest.approx({1: 0.01, 2: 0.04, 3: 0.004, 4: 0.004})
    (point,) = client.get_metric_history(run_id, "pbt/recipe.learning_rate")
    assert (point.step, point.value) == (1, 0.04)
    run = client.get_run(run_id)
    assert run.data.params == params_of(own)
    assert json.loads(run.data.tags[names.CHANGES]) == [
        {
            "epoch": 1,
            "donor": member(0.05).trial_id,
            "values": {"recipe.learning_rate": 0.04},
        }
    ]


def test_nothing_is_taken_over_from_a_trial_without_a_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with begin(member(0.01), tmp_path) as session:
        advance(session, 1)
        session.take_over("0123456789ab", member(0.04), {"recipe.learning_rate": 0.04})
        assert session.changed_values is None
        assert session.trainer.optimizers["S1"].param_groups[0]["lr"] == 0.01
    assert "trial 0123456789ab has no checkpoint yet" in caplog.text


def test_an_early_stop_ends_with_the_epoch_and_survives_a_crash(
    tmp_path: Path, store: TrackedExperiment
) -> None:
    spec = member(0.05)
    with begin(spec, tmp_path, store) as session:
        advance(session, 1)
        # in the middle of an epoch, which is trained to its end
        assert session.advance(0.0) is None
        session.stop_early("stopped by asha")
        assert not session.done
        advance(session, 1)
        assert session.done
        session.checkpoint()
    with begin(spec, tmp_path, store) as session:
        assert session.done
        result = session.finish()
    run = store.trial_runs()[spec.trial_id]
    assert run.info.status == "FINISHED"
    assert run.data.tags[names.STOPPED] == "epoch 2: stopped by asha"
    assert result.metrics["last_val_top1/S1"] == run.data.metrics["val_top1/S1"]
    gaps = MlflowClient(store.uri).get_metric_history(run.info.run_id, "gap/T1-S1")
    assert max(gap.step for gap in gaps) == 2 * STEPS
