"""What a resolved trial says of itself."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from switokd.spec.recipe import NetworkSpec
from switokd.spec.resources import Resources
from switokd.spec.tracked_params import params_of
from switokd.spec.trial import MethodSpec, TrialSpec


def a_trial(teachers: list[str], students: list[str], **changes: Any) -> TrialSpec:
    networks = {f"T{i}": {"model": model} for i, model in enumerate(teachers, start=1)}
    networks |= {f"S{i}": {"model": model} for i, model in enumerate(students, start=1)}
    spec = {
        "experiment": "one",
        "dataset": "digits",
        "networks": networks,
        "method": {"name": "switokd"},
        "recipe": {"epochs": 4},
    }
    return TrialSpec.model_validate(spec | changes)


@pytest.mark.parametrize(
    ("teachers", "students", "topology", "pair", "links"),
    [
        ([], ["wrn_16_2"], "single", "wrn_16_2", []),
        (["wrn_16_2"], ["resnet20"], "1T1S", "wrn_16_2>resnet20", ["T1-S1"]),
        (
            ["wrn_16_10", "wrn_16_2"],
            ["mobilenet"],
            "2T1S",
            "wrn_16_10+wrn_16_2>mobilenet",
            ["T1-S1", "T2-S1"],
        ),
        (
            ["wrn_16_2"],
            ["resnet20", "wrn_16_1"],
            "1T2S",
            "wrn_16_2>resnet20+wrn_16_1",
            ["T1-S1", "T1-S2"],
        ),
    ],
)
def test_a_cohort_by_its_names(
    teachers: list[str], students: list[str], topology: str, pair: str, links: list[str]
) -> None:
    trial = a_trial(teachers, students)
    assert trial.topology == topology
    assert trial.pair == pair
    assert ["-".join(link) for link in trial.links] == links


def test_flattened_has_every_resolved_value() -> None:
    flat = params_of(a_trial(["wrn_16_2"], ["resnet20"], temperature=2.5, dataset_path="x"))
    assert (
        flat.items()
        >= {
            "dataset": "digits",
            "dataset_path": "x",
            "method": "switokd",
            "method.threshold": "adaptive",
            "method.require_better_teacher": "true",
            "temperature": "2.5",
            "seed": "0",
            "recipe.epochs": "4",
            "recipe.milestones": "[]",
            "recipe.deterministic": "false",
            "recipe.image_size": "null",
            "T1.model": "wrn_16_2",
            "S1.learning_rate": "0.1",
            "S1.optimizer": "sgd",
        }.items()
    )
    assert not any(key.startswith(("resources", "experiment")) for key in flat)


def test_a_spec_survives_json_and_cannot_be_changed() -> None:
    method = {"name": "kdcl", "settings": {"variant": "naive"}}
    trial = a_trial(["wrn_16_2"], ["resnet20"], method=method)
    again = TrialSpec.model_validate_json(trial.model_dump_json())
    assert again == trial
    assert again.trial_id == trial.trial_id
    with pytest.raises(ValidationError):
        trial.seed = 3
    with pytest.raises(ValidationError):
        trial.recipe.epochs = 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"dataset": "cifar"},
        {"method": {"name": "switok"}},
        {"method": {"name": "dml", "settings": {"threshold": 1}}},
        {"method": {"name": "kdcl", "settings": {"variant": "general"}}},
        {"temperature": 0},
        {"seed": -1},
        {"seed": True},
        {"seeds": 1},
        {"resources": {"gpus": True}},
        {"resources": {"cpus": 0}},
    ],
)
def test_a_spec_made_in_python_is_checked_too(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        a_trial(["wrn_16_2"], ["resnet20"], **wrong)


def test_defaults_are_those_of_the_contract() -> None:
    network = NetworkSpec(model="resnet20")
    assert (network.optimizer, network.learning_rate, network.momentum) == ("sgd", 0.1, 0.9)
    assert (network.weight_decay, network.init) == (5e-4, "default")
    recipe = a_trial([], ["resnet20"], method={"name": "vanilla"}).recipe
    assert (recipe.batch_size, recipe.milestones, recipe.holdout) == (128, (), 0)
    assert (recipe.precision, recipe.engine, recipe.deterministic) == ("fp32", "eager", False)
    assert MethodSpec(name="switokd").settings.threshold == "adaptive"
    assert (Resources().cpus, Resources().gpus) == ("auto", "auto")
