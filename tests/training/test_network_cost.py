"""What a network costs: counted by hand, and without a trace left in it."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, nn

from switokd.training.network_cost import cost_metrics, network_cost
from tests.cohorts import same_bits, weights_of


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Conv2d(5, 7, 1, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(7, 4),
    )


def test_parameters_and_multiply_adds_are_those_counted_by_hand() -> None:
    cost = network_cost(network(), 8)
    assert cost.parameters == 3 * 5 * 9 + 2 * 5 + (5 * 7 + 7) + (7 * 4 + 4)
    assert cost.multiply_adds == 8 * 8 * 3 * 5 * 9 + 4 * 4 * 5 * 7 + 7 * 4
    assert cost.milliseconds > 0


def test_a_network_is_left_as_it_was() -> None:
    trained = network()
    before, random = weights_of(trained), torch.get_rng_state()
    network_cost(trained, 8)
    assert same_bits(weights_of(trained), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert trained.training
    assert all(parameter.grad is None for parameter in trained.parameters())


class Unwilling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("not one image")


def test_what_cannot_be_counted_fails_no_trial(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert cost_metrics("S1", Unwilling(), 8) == {}
    assert "what S1 costs is not known: not one image" in caplog.text
    assert cost_metrics("S1", network(), 8).keys() == {
        "parameters/S1",
        "multiply_adds/S1",
        "milliseconds_per_image/S1",
    }
