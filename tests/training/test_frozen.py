"""A network that the trial says only teaches: with its own weights, and without being moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from switokd.methods import build_method
from switokd.models import build_model
from switokd.spec.experiment import load_experiment
from switokd.spec.trial import TrialSpec
from switokd.training.build import build_trainer
from switokd.training.trainer import Trainer
from switokd.validation import SpecError
from tests.cohorts import same_bits, weights_of

pytestmark = pytest.mark.usefixtures("tiny_models")

CPU = torch.device("cpu")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    path = tmp_path / "teacher.pt"
    torch.save(build_model("tiny_wide", 10).state_dict(), path)
    return path


def trial(
    weights: Path, /, method: Any = "dml", engine: str = "eager", **teacher: Any
) -> TrialSpec:
    own = {"model": "tiny_wide", "weights": str(weights), "frozen": True, **teacher}
    recipe = {"epochs": 2, "batch_size": 512, "image_size": 8, "engine": engine}
    (found,) = load_experiment(
        {
            "name": "frozen",
            "dataset": "digits",
            "cohorts": [{"teachers": [own], "students": ["tiny"]}],
            "methods": [method],
            "recipe": recipe | ({"holdout": 0.2} if "general" in str(method) else {}),
        }
    ).trials
    return found


def train(trainer: Trainer) -> None:
    while not trainer.done:
        trainer.run_epoch()


@pytest.mark.parametrize("engine", ["eager", "graphed"])
@pytest.mark.parametrize("method", ["dml", "kdcl", {"kdcl": {"variant": "general"}}])
def test_what_only_teaches_is_not_moved(weights: Path, method: Any, engine: str) -> None:
    trainer = build_trainer(trial(weights, method, engine), CPU)
    teacher, student = trainer.networks["T1"], trainer.networks["S1"]
    assert same_bits(weights_of(teacher), torch.load(weights))
    before = weights_of(student)
    train(trainer)
    assert same_bits(weights_of(teacher), torch.load(weights)), "weights and statistics"
    assert not same_bits(weights_of(student), before)
    assert trainer.optimizers.keys() == trainer.schedulers.keys() == {"S1"}
    assert not teacher.training
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_weights_without_frozen_are_a_start(weights: Path) -> None:
    trainer = build_trainer(trial(weights, "switokd", frozen=False), CPU)
    assert same_bits(weights_of(trainer.networks["T1"]), torch.load(weights))
    train(trainer)
    assert not same_bits(weights_of(trainer.networks["T1"]), torch.load(weights))


def test_a_trial_with_a_frozen_network_goes_on_bit_for_bit(weights: Path) -> None:
    whole, first, second = (build_trainer(trial(weights), CPU) for _ in range(3))
    train(whole)
    first.run_epoch(lambda: first.step < 2)
    assert first.step == 2
    second.load_state_dict(first.state_dict())
    train(second)
    for name, network in whole.networks.items():
        assert same_bits(weights_of(network), weights_of(second.networks[name]))


def test_mutual_learning_with_one_frozen_teacher_is_distillation() -> None:
    torch.manual_seed(0)
    logits = {name: torch.randn(4, 6, dtype=torch.float64) for name in ("T1", "S1")}
    targets = torch.tensor([0, 1, 2, 5])
    method = build_method("dml", temperature=3.0, frozen={"T1"})
    step = method(logits, targets)
    assert step.losses.keys() == {"S1"}
    assert (method.demand("T1").trained, method.demand("S1").trained) == (False, True)

    def softened(z: Tensor) -> Tensor:
        return (z / 3).softmax(1)

    teacher, student = softened(logits["T1"]), softened(logits["S1"])
    divergence = (teacher * (teacher / student).log()).sum(1).mean()
    expected = F.cross_entropy(logits["S1"], targets) + 9 * divergence
    torch.testing.assert_close(step.losses["S1"], expected)


def test_weights_that_changed_since_are_refused(weights: Path) -> None:
    made = trial(weights)
    torch.save(build_model("tiny_wide", 10).state_dict(), weights)
    with pytest.raises(SpecError, match=r"teacher.pt: has changed since the trial was made"):
        build_trainer(made, CPU)


def test_weights_of_another_network_are_refused(weights: Path) -> None:
    torch.save(build_model("tiny", 10).state_dict(), weights)
    with pytest.raises(SpecError, match="not the weights of tiny_wide with 10 classes: of its"):
        build_trainer(trial(weights), CPU)


@pytest.mark.parametrize("method", ["dml", "kdcl"])
def test_a_student_starts_as_beside_a_teacher_that_learns(weights: Path, method: str) -> None:
    frozen = build_trainer(trial(weights, method), CPU).networks["S1"]
    learning = build_trainer(trial(weights, method, frozen=False), CPU).networks["S1"]
    assert same_bits(weights_of(frozen), weights_of(learning))


def test_a_head_of_another_number_of_classes_begins_anew(tmp_path: Path) -> None:
    torch.manual_seed(5)
    others = build_model("tiny_wide", 7).state_dict()
    path = tmp_path / "seven.pt"
    torch.save(others, path)
    with pytest.raises(SpecError, match=r"not the weights of tiny_wide with 10 classes: .*shape"):
        build_trainer(trial(path, frozen=False), CPU)
    trainer = build_trainer(trial(path, frozen=False, new_head=True), CPU)
    fresh = build_trainer(trial(path, frozen=False, weights=None), CPU).networks["T1"].state_dict()
    found = trainer.networks["T1"].state_dict()
    anew = [key for key, value in found.items() if value.shape != others[key].shape]
    assert {found[key].shape[0] for key in anew} == {10}
    for key, value in found.items():
        torch.testing.assert_close(value, fresh[key] if key in anew else others[key])
    before = weights_of(trainer.networks["T1"])
    trainer.run_epoch()
    assert not same_bits(before, weights_of(trainer.networks["T1"]))


def test_a_new_head_is_for_weights_that_need_one(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no head of another number of classes than 10: leave out"):
        build_trainer(trial(weights, frozen=False, new_head=True), CPU)
    # all else must fit, what goes into the head too
    path = tmp_path / "odd.pt"
    odd = build_model("tiny_wide", 7).state_dict()
    head = next(key for key in odd if key.endswith("weight") and odd[key].shape[0] == 7)
    torch.save({**odd, head: torch.ones(7, odd[head].shape[1] + 1)}, path)
    with pytest.raises(SpecError, match="1 of another shape"):
        build_trainer(trial(path, frozen=False, new_head=True), CPU)
    del odd[next(iter(odd))]
    torch.save(odd, path)
    with pytest.raises(SpecError, match="1 missing"):
        build_trainer(trial(path, frozen=False, new_head=True), CPU)
