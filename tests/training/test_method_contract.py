"""What a method may ask for beside logits: maps, frozen networks, modules and memory of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switokd.methods import METHODS
from switokd.methods.base import CohortStep, Demand, Method, Surroundings
from switokd.methods.losses import Predictions
from switokd.methods.settings import SETTINGS, MethodSettings
from switokd.spec.recipe import NetworkSpec, Recipe
from switokd.spec.trial import MethodSpec, TrialSpec
from switokd.training.build import build_trainer
from switokd.training.trainer import Trainer
from switokd.validation import SpecError

CPU = torch.device("cpu")
STEPS = 6


class HintSettings(MethodSettings):
    has_roles: ClassVar[bool] = True
    stage: str = "stage2"


class Hint(Method):
    """A frozen teacher; the student's map, through a regressor, follows the teacher's.

    The memory is the mean of the regressor's answers so far.
    """

    settings: HintSettings

    def demand(self, network: str) -> Demand:
        return Demand(trained=network != "T1", maps=(self.settings.stage,))

    def attach(self, surroundings: Surroundings) -> Mapping[str, nn.Module]:
        shapes = {name: maps[self.settings.stage] for name, maps in surroundings.shapes.items()}
        self.regressor = nn.Conv2d(shapes["S1"][0], shapes["T1"][0], 1)
        self.memory = torch.zeros(shapes["T1"][0], device=surroundings.device)
        return {"S1": self.regressor}

    def step(self, predictions: Predictions) -> CohortStep:
        teacher, student = (predictions.maps[n][self.settings.stage] for n in ("T1", "S1"))
        assert not teacher.requires_grad
        answer = self.regressor(student)
        self.memory = 0.9 * self.memory + 0.1 * answer.detach().mean(dim=(0, 2, 3))
        hint = F.mse_loss(answer, teacher) + (answer.mean(dim=(0, 2, 3)) * self.memory).sum()
        links = {("T1", "S1"): predictions.link("T1", "S1")}
        cross_entropies = {n: ce.detach() for n, ce in predictions.cross_entropies.items()}
        losses = {"S1": predictions.cross_entropies["S1"] + hint}
        return CohortStep(losses, cross_entropies, links)

    def state_dict(self) -> dict[str, Tensor]:
        return {"memory": self.memory}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.memory = state["memory"]


@pytest.fixture(autouse=True)
def _hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "hint", "tests.training.test_method_contract:Hint")
    monkeypatch.setitem(SETTINGS, "hint", HintSettings)
    # importlib mode gives this file another name than the registry's
    import sys

    monkeypatch.setitem(sys.modules, "tests.training.test_method_contract", sys.modules[__name__])


def trial(method: str = "hint", **settings: Any) -> TrialSpec:
    return TrialSpec(
        experiment="contract",
        dataset="digits",
        networks={"T1": NetworkSpec(model="wrn_16_2"), "S1": NetworkSpec(model="resnet20")},
        method=MethodSpec.model_validate({"name": method, "settings": settings}),
        recipe=Recipe(epochs=2, batch_size=100, train_images=600, image_size=8),
    )


def digest(module: nn.Module) -> str:
    content = b"".join(value.numpy().tobytes() for value in module.state_dict().values())
    return hashlib.sha256(content).hexdigest()


def train(trainer: Trainer, until: int = 2 * STEPS) -> None:
    while not trainer.done and trainer.step < until:
        trainer.run_epoch(lambda: trainer.step < until)


def test_a_network_that_only_teaches_does_not_move() -> None:
    trainer = build_trainer(trial(), CPU)
    before = {name: digest(network) for name, network in trainer.networks.items()}
    regressor = digest(trainer.attached["S1"])
    train(trainer)
    assert digest(trainer.networks["T1"]) == before["T1"], "weights and statistics"
    assert digest(trainer.networks["S1"]) != before["S1"]
    assert digest(trainer.attached["S1"]) != regressor, "trained with its network"
    assert trainer.optimizers.keys() == trainer.schedulers.keys() == {"S1"}


def test_a_trial_with_modules_and_memory_goes_on_bit_for_bit() -> None:
    whole = build_trainer(trial(), CPU)
    train(whole)
    first = build_trainer(trial(), CPU)
    train(first, until=STEPS + 2)
    state = first.state_dict()
    second = build_trainer(trial(), CPU)
    second.load_state_dict(state)
    train(second)
    assert digest(second.networks["S1"]) == digest(whole.networks["S1"])
    assert digest(second.attached["S1"]) == digest(whole.attached["S1"])
    assert torch.equal(second.method.state_dict()["memory"], whole.method.state_dict()["memory"])
    assert torch.equal(second.timeline.rows(), whole.timeline.rows())


def test_the_modules_first_weights_depend_on_the_seed_alone() -> None:
    one, other = build_trainer(trial(), CPU), build_trainer(trial(), CPU)
    assert digest(one.attached["S1"]) == digest(other.attached["S1"])
    plain = build_trainer(trial("switokd"), CPU)
    for name, network in plain.networks.items():
        assert digest(network) == digest(one.networks[name]), "attaching moves no other draw"


def test_a_method_that_asks_for_nothing_costs_nothing() -> None:
    trainer = build_trainer(trial("switokd"), CPU)
    assert trainer.attached == {}
    hooks = [m for n in trainer.networks.values() for m in n.modules() if m._forward_hooks]
    assert hooks == []


def test_an_unknown_stage_is_answered_with_those_there_are() -> None:
    with pytest.raises(SpecError, match=r"unknown stage of wrn_16_2 'stage9'.*stage1, stage2"):
        build_trainer(trial(stage="stage9"), CPU)
