"""Which changes make another trial, and which do not. Renew the pinned ids by running this file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import create_model

from switokd.spec.experiment import load_experiment
from switokd.spec.identity import AddedLater, content_id
from switokd.spec.recipe import Recipe
from switokd.spec.trial import TrialSpec

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "experiments" / "quickstart.yaml"
PINNED = ROOT / "tests" / "golden" / "quickstart_ids.txt"
RENEW = "# renew: .venv/bin/python -m tests.spec.test_identity"


def quickstart_ids() -> list[str]:
    return [f"{trial.trial_id} {trial.label}" for trial in load_experiment(QUICKSTART).trials]


def a_trial(**changes: Any) -> TrialSpec:
    spec = {
        "experiment": "one",
        "dataset": "digits",
        "networks": {"T1": {"model": "wrn_16_2"}, "S1": {"model": "wrn_16_1"}},
        "method": {"name": "switokd"},
        "recipe": {"epochs": 4, "milestones": [2]},
    }
    return TrialSpec.model_validate(spec | changes)


def test_the_quickstart_keeps_its_ids() -> None:
    pinned = PINNED.read_text(encoding="utf-8").splitlines()
    assert pinned[0] == RENEW
    assert quickstart_ids() == pinned[1:]


@pytest.mark.parametrize(
    "same",
    [
        {"experiment": "another"},
        {"resources": {"cpus": 1, "checkpoint_seconds": 5.0}},
        {"resources": {"workers": 4, "batch_norm": "synchronized"}},
        {"resources": {"gpus": 4, "batch_norm": "synchronized"}},
        {"resources": {"gpus": 1}},
        {"temperature": 1},
        {"seed": 0},
        {"recipe": {"milestones": [2], "epochs": 4}},
        {"recipe": {"epochs": 4, "milestones": [2], "batch_size": 128, "holdout": 0}},
        {"networks": {"S1": {"model": "wrn_16_1"}, "T1": {"model": "wrn_16_2"}}},
        {"networks": {"T1": {"momentum": 0.9, "model": "wrn_16_2"}, "S1": {"model": "wrn_16_1"}}},
        {"method": {"name": "switokd", "settings": {"threshold": "adaptive", "alpha": 1}}},
        {"dataset_path": None},
    ],
)
def test_what_changes_no_result_changes_no_id(same: dict[str, Any]) -> None:
    assert a_trial(**same).trial_id == a_trial().trial_id


def test_what_changes_the_result_changes_the_id() -> None:
    swapped = {"T1": {"model": "wrn_16_1"}, "S1": {"model": "wrn_16_2"}}
    faster = {"T1": {"model": "wrn_16_2", "learning_rate": 0.2}, "S1": {"model": "wrn_16_1"}}
    trials = [
        a_trial(),
        a_trial(dataset="mnist"),
        a_trial(dataset_path="elsewhere"),
        a_trial(networks=swapped),
        a_trial(networks=faster),
        a_trial(method={"name": "dml"}),
        a_trial(method={"name": "switokd", "settings": {"threshold": 0.6}}),
        a_trial(method={"name": "switokd", "settings": {"require_better_teacher": False}}),
        a_trial(temperature=2),
        a_trial(seed=1),
        a_trial(resources={"workers": 2}, batch_norm_parts=2),
        a_trial(resources={"gpus": 4}, batch_norm_parts=4),
        *(
            a_trial(recipe={"epochs": 4, "milestones": [2], **change})
            for change in (
                {"epochs": 5},
                {"batch_size": 64},
                {"milestones": []},
                {"milestones": [3]},
                {"warmup_epochs": 1},
                {"holdout": 0.1},
                {"precision": "fp64"},
                {"engine": "compiled"},
                {"deterministic": True},
                {"image_size": 8},
                {"augmentation": "crop"},
            )
        ),
    ]
    ids = [trial.trial_id for trial in trials]
    assert len(set(ids)) == len(ids)
    assert all(len(trial_id) == 12 and int(trial_id, 16) >= 0 for trial_id in ids)


def test_a_field_added_later_counts_only_when_it_is_used() -> None:
    old = content_id(Recipe(epochs=4))
    # a later change of the default must not rename the trials that ran under the first one
    moved: Any = create_model(
        "MovedRecipe",
        __base__=Recipe,
        momentum_decay=(Annotated[float, AddedLater(0.0)], 0.5),
    )
    assert content_id(moved(epochs=4)) != old
    assert content_id(moved(epochs=4, momentum_decay=0.0)) == old


def test_one_and_one_point_zero_are_one_number() -> None:
    assert content_id({"temperature": 1.0, "rates": [2.0]}) == content_id(
        {"temperature": 1, "rates": [2]}
    )
    assert content_id({"flag": True}) != content_id({"flag": 1})


if __name__ == "__main__":
    PINNED.write_text("\n".join([RENEW, *quickstart_ids()]) + "\n", encoding="utf-8")
