"""What a file may ask of a machine, and of the processes that train one trial together."""

from __future__ import annotations

from typing import Any

import pytest

from switokd.spec.experiment import load_experiment
from switokd.validation import SpecError

BASE: dict[str, Any] = {
    "name": "resources",
    "dataset": "digits",
    "cohorts": [{"teachers": ["wrn_16_2"], "students": ["wrn_16_1"]}],
    "methods": ["switokd"],
    "recipe": {"epochs": 4},
}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        *(
            ({"resources": {"gpus": wrong}}, "resources.gpus: must be 'auto', a share from 0 to 1")
            for wrong in (-1, 2.5, float("inf"), float("nan"), True, "2")
        ),
        (
            {"resources": {"gpus": 1.5}},
            "resources.gpus: must be 'auto', a share from 0 to 1 or a whole number",
        ),
        (
            {"resources": {"workers": 2, "gpus": 1}},
            "resources.gpus: must be 0 with workers, which train on CPUs (found 1.0)",
        ),
        (
            {"resources": {"workers": 2, "trials_per_gpu": "auto"}},
            "resources.trials_per_gpu: must be 1 with workers, which train on CPUs (found auto)",
        ),
        (
            {"resources": {"workers": 2}, "methods": ["crd"]},
            "resources.workers: must be 1 for crd, whose losses need the whole batch (found 2)",
        ),
        (
            {"resources": {"gpus": 2}, "recipe": {"epochs": 4, "engine": "graphed"}},
            "resources.gpus: must be 1 for engine graphed (found 2)",
        ),
        (
            {"resources": {"gpus": 8}, "recipe": {"epochs": 4, "batch_size": 15}},
            "resources.gpus: must leave each 2 images or more of a batch of 15 (found 8)",
        ),
        ({"resources": {"batch_norm": "global"}}, "resources.batch_norm: must be"),
    ],
)
def test_what_cannot_be_given_is_said_with_its_key(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError) as raised:
        load_experiment(BASE | changes)
    assert str(raised.value).startswith(f"the experiment: {told}")


@pytest.mark.parametrize(
    ("resources", "ranks", "parts"),
    [
        ({}, 1, 1),
        ({"gpus": 0.5}, 1, 1),
        ({"gpus": 1}, 1, 1),
        ({"gpus": 4}, 4, 4),
        ({"gpus": 4, "batch_norm": "synchronized"}, 4, 1),
        ({"workers": 3}, 3, 3),
        ({"workers": 3, "gpus": 0}, 3, 3),
    ],
)
def test_how_many_processes_train_a_trial(
    resources: dict[str, Any], ranks: int, parts: int
) -> None:
    (trial,) = load_experiment(BASE | {"resources": resources}).trials
    assert (trial.resources.ranks, trial.batch_norm_parts) == (ranks, parts)
