"""A user's module in a sweep: its workers find it, and a changed line of it is another trial."""

from __future__ import annotations

import sys

import pytest

from switokd.spec.tracked_params import params_of
from switokd.spec.trial import TrialSpec
from tests.tuning.workplace import Workplace, small_experiment
from tuning.changed_trials import changed_since, why_trained

NETWORKS = """
from torch import nn

def net(num_classes):
    layers = [nn.Conv2d(3, {width}, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear({width}, num_classes))
"""


@pytest.mark.slow
def test_workers_find_a_module_beside_the_file(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = workplace.folder / "sweeps_own.py"
    module.write_text(NETWORKS.format(width=4), encoding="utf-8")
    content = small_experiment(
        name="own",
        methods=["dml"],
        cohorts=[{"teachers": ["resnet20"], "students": ["sweeps_own:net"]}],
        recipe={"train_images": 200},
    )
    (first,) = workplace.write(content).trials
    workplace.sweep()
    assert workplace.trial_runs("own").keys() == {first.trial_id}
    module.write_text(NETWORKS.format(width=5), encoding="utf-8")
    output = workplace.sweep("--dry-run")
    assert f"to train: S1.source not as in {first.trial_id}" in output
    output = workplace.sweep()
    assert "1 of them because of another S1.source than of a finished trial" in output
    assert len(workplace.trial_runs("own")) == 2


def a_trial(**changes: object) -> TrialSpec:
    spec = {
        "experiment": "one",
        "dataset": "digits",
        "networks": {"T1": {"model": "wrn_16_2"}, "S1": {"model": "wrn_16_1"}},
        "method": {"name": "dml"},
        "recipe": {"epochs": 4},
    }
    return TrialSpec.model_validate(spec | changes)


def test_what_differs_from_the_nearest_finished_trial_is_said() -> None:
    far = a_trial(recipe={"epochs": 9, "batch_size": 64, "holdout": 0.1, "warmup_epochs": 1})
    near = a_trial(recipe={"epochs": 4, "batch_size": 64})
    finished = {trial.trial_id: params_of(trial) for trial in (far, near)}
    new, other_seed, other_method = (
        a_trial(),
        a_trial(seed=3),
        a_trial(method={"name": "kdcl"}),
    )
    changed = changed_since([new, other_seed, other_method], finished)
    assert changed == {new.trial_id: (near.trial_id, ("recipe.batch_size",))}
    assert why_trained(changed) == [
        "1 of them because of another recipe.batch_size than of a finished trial"
    ]
    assert changed_since([new], {far.trial_id: params_of(far)}) == {}
