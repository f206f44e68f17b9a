"""One step of a cohort, to the bit: who moves, who does not, and from which weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from switokd.methods import build_method
from switokd.training.trainer import Trainer
from tests.cohorts import (
    ALL_EXPERT,
    ALL_LEARNING,
    TinyData,
    momentum_of,
    parameters_of,
    same_bits,
    tiny_trainer,
    weights_of,
)

TOPOLOGIES = pytest.mark.parametrize(("teachers", "students"), [(1, 1), (2, 1), (1, 2), (2, 2)])


def one_batch(step: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    return list(TinyData(seed=5).train_epoch())[step]


def warmed_up(teachers: int, students: int, precision: str = "fp64", **settings: Any) -> Trainer:
    """A trainer three steps on, so that every momentum buffer is in motion, then with `settings`
    of SwitOKD for the steps to come."""
    trainer = tiny_trainer(
        teachers=teachers, students=students, precision=precision, **ALL_LEARNING
    )
    for step in range(3):
        trainer.train_step(*one_batch(step))
    trainer.method.settings = build_method("switokd", **settings).settings
    return trainer


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16"])
@TOPOLOGIES
def test_a_paused_teacher_is_bit_identical_but_for_its_statistics(
    teachers: int, students: int, precision: str
) -> None:
    trainer = warmed_up(teachers, students, precision, **ALL_EXPERT)
    before = {n: (parameters_of(trainer, n), momentum_of(trainer, n)) for n in trainer.networks}
    statistics = {n: weights_of(network.norm) for n, network in trainer.networks.items()}
    step = trainer.train_step(*one_batch())
    assert step.paused == set(trainer.method.teachers)
    for name, (parameters, momentum) in before.items():
        moved = name not in step.paused
        assert momentum, "else there is no momentum that could move it"
        assert same_bits(parameters_of(trainer, name), parameters) is not moved
        assert same_bits(momentum_of(trainer, name), momentum) is not moved
        norm = trainer.networks[name].norm
        assert not torch.equal(norm.running_mean, statistics[name]["running_mean"])
        assert not torch.equal(norm.running_var, statistics[name]["running_var"])


@TOPOLOGIES
def test_in_learning_mode_every_network_moves(teachers: int, students: int) -> None:
    trainer = warmed_up(teachers, students, **ALL_LEARNING)
    before = {name: parameters_of(trainer, name) for name in trainer.networks}
    assert trainer.train_step(*one_batch()).paused == set()
    for name, parameters in before.items():
        after = parameters_of(trainer, name)
        assert all(not torch.equal(after[key], value) for key, value in parameters.items())


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
@TOPOLOGIES
def test_the_student_s_update_is_bit_identical_in_both_modes(
    teachers: int, students: int, precision: str
) -> None:
    trainers = [
        warmed_up(teachers, students, precision, **mode) for mode in (ALL_EXPERT, ALL_LEARNING)
    ]
    steps = [trainer.train_step(*one_batch()) for trainer in trainers]
    assert [len(step.paused) for step in steps] == [teachers, 0]
    for name in trainers[0].method.students:
        first, second = (weights_of(trainer.networks[name]) for trainer in trainers)
        assert same_bits(first, second)
        assert same_bits(*(momentum_of(trainer, name) for trainer in trainers))


@pytest.mark.parametrize("method", ["switokd", "dml", "kdcl", "vanilla"])
def test_every_forward_pass_comes_before_any_update(method: str) -> None:
    trainer, events = tiny_trainer(method, teachers=2, students=2), []
    for name, network in trainer.networks.items():
        network.register_forward_hook(lambda *_, name=name: events.append(("forward", name)))
        trainer.optimizers[name].register_step_pre_hook(
            lambda *_, name=name: events.append(("update", name))
        )
    trainer.train_step(*one_batch())
    names = set(trainer.networks)
    assert {name for kind, name in events[:4] if kind == "forward"} == names
    assert {name for kind, name in events[4:] if kind == "update"} == names


def test_a_paused_teacher_has_no_backward_pass() -> None:
    trainer = warmed_up(1, 1, **ALL_EXPERT)
    trainer.networks["T1"].zero_grad()
    touched = []
    for name, network in trainer.networks.items():
        network.head.weight.register_hook(lambda grad, name=name: touched.append(name))
    trainer.train_step(*one_batch())
    assert touched == ["S1"]


@pytest.mark.parametrize("method", ["switokd", "dml", "kdcl", "vanilla"])
def test_a_network_s_update_is_from_its_own_loss_alone(method: str) -> None:
    """Each network against a lone optimizer step on the gradient of its own loss."""
    trainer, alone = (tiny_trainer(method, teachers=2, students=2) for _ in range(2))
    images, targets, _ = one_batch()
    logits = {name: network(images.double()) for name, network in alone.networks.items()}
    losses = alone.method(logits, targets).losses
    step = trainer.train_step(images, targets)
    for name, network in alone.networks.items():
        parameters = list(network.parameters())
        gradients = torch.autograd.grad(losses[name], parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        alone.optimizers[name].step()
        if name not in step.paused:
            torch.testing.assert_close(parameters_of(trainer, name), parameters_of(alone, name))


def test_losses_of_each_step_belong_to_the_weights_before_it() -> None:
    trainer = tiny_trainer()
    images, targets, _ = one_batch()
    logits = {name: network(images.double()) for name, network in trainer.networks.items()}
    expected = trainer.method(logits, targets)
    step = trainer.train_step(images, targets)
    for name in trainer.networks:
        assert step.losses[name].item() == expected.losses[name].item()
    recorded = trainer.timeline.switch(("T1", "S1"))
    assert recorded["gap"][0] == expected.links["T1", "S1"].gap.item()


@pytest.mark.parametrize(
    ("precision", "computed", "kept"),
    [
        ("fp32", torch.float32, torch.float32),
        ("bf16", torch.bfloat16, torch.float32),
        ("fp64", torch.float64, torch.float64),
    ],
)
def test_precision_is_that_of_the_forward_pass(
    precision: str, computed: torch.dtype, kept: torch.dtype
) -> None:
    trainer, seen = tiny_trainer(precision=precision), []
    trainer.networks["S1"].register_forward_hook(lambda *call: seen.append(call[-1].dtype))
    step = trainer.train_step(*one_batch())
    trainer.evaluate("test")
    assert set(seen) == {computed}
    assert step.losses["S1"].dtype == trainer.networks["S1"].head.weight.dtype == kept


def test_views_go_to_the_networks_in_their_order() -> None:
    trainer, seen = tiny_trainer("kdcl", students=2, views="own"), {}
    for name, network in trainer.networks.items():
        network.register_forward_hook(
            lambda _, inputs, __, name=name: seen.update({name: inputs[0].mean().item()})
        )
    images, targets, _ = one_batch()
    trainer.train_step(tuple(torch.full_like(images, value) for value in (1, 2, 3)), targets)
    assert seen == {"T1": 1.0, "S1": 2.0, "S2": 3.0}
