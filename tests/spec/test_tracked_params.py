"""Runs from before and after a field came into the schema are the same runs."""

from __future__ import annotations

from typing import Any

import pytest

from switokd.session.extension import shorter_trials
from switokd.spec.tracked_params import all_but_length, fill_params, params_of
from switokd.spec.trial import TrialSpec

SPEC: dict[str, Any] = {
    "experiment": "one",
    "dataset": "digits",
    "networks": {"T1": {"model": "wrn_16_2"}, "S1": {"model": "wrn_16_1"}},
    "method": {"name": "kdcl", "settings": {"weight": 0.5}},
    "recipe": {"epochs": 4},
}


OLD = TrialSpec.model_validate(SPEC)
OLD_PARAMS = params_of(OLD)


def changed(**groups: dict[str, Any]) -> dict[str, Any]:
    method = {"name": "kdcl", "settings": SPEC["method"]["settings"] | groups.get("settings", {})}
    networks = {name: spec | groups.get(name, {}) for name, spec in SPEC["networks"].items()}
    recipe = SPEC["recipe"] | groups.get("recipe", {})
    return SPEC | {"method": method, "networks": networks, "recipe": recipe}


USED = [{"settings": {"warmth": 1.5}}, {"recipe": {"mixup": 0.2}}, {"S1": {"nesterov": True}}]


def test_a_new_field_that_is_not_used_changes_neither_id_nor_params(later: Any) -> None:
    trial = later.model_validate(SPEC)
    assert trial.trial_id == OLD.trial_id
    assert params_of(trial) == OLD_PARAMS
    stated = changed(settings={"warmth": 0.0}, recipe={"mixup": 0.0}, S1={"nesterov": False})
    assert later.model_validate(stated).trial_id == OLD.trial_id


@pytest.mark.parametrize("used", USED, ids=lambda used: next(iter(used)))
def test_a_new_field_that_is_used_makes_another_trial(later: Any, used: dict[str, Any]) -> None:
    trial = later.model_validate(changed(**used))
    assert trial.trial_id != OLD.trial_id
    assert all_but_length(params_of(trial)) != all_but_length(OLD_PARAMS)


def test_a_longer_trial_finds_the_shorter_one_from_before(later: Any) -> None:
    longer = later.model_validate(changed(recipe={"epochs": 8}))
    assert shorter_trials([longer], {OLD.trial_id: OLD_PARAMS}) == {longer.trial_id: [OLD.trial_id]}
    stated = OLD_PARAMS | {"recipe.mixup": "0.0", "method.warmth": "0.0", "T1.nesterov": "false"}
    assert shorter_trials([longer], {OLD.trial_id: stated}) == {longer.trial_id: [OLD.trial_id]}
    other = later.model_validate(changed(recipe={"epochs": 8, "mixup": 0.2}))
    assert shorter_trials([other], {OLD.trial_id: OLD_PARAMS}) == {}


def test_params_are_filled_with_what_older_runs_did(later: Any) -> None:
    filled = fill_params(OLD_PARAMS)
    assert filled["recipe.mixup"] == "0.0"
    assert filled["method.warmth"] == "0.0"
    assert (filled["T1.nesterov"], filled["S1.nesterov"]) == ("false", "false")
    assert (filled["stand_in"], filled["dataset_path"]) == ("false", "null")
    assert filled == filled | OLD_PARAMS, "what a run has is kept"
    used = params_of(later.model_validate(changed(recipe={"mixup": 0.2})))
    assert fill_params(used)["recipe.mixup"] == "0.2"
