"""Initial weights: each network's own, and the one that recipes ask for."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from switokd.models import INITIALIZATIONS, build_model
from switokd.models.initialization import initialize


def weights(model: nn.Module, kind: type[nn.Module]) -> list[Tensor]:
    return _parameters(model, kind, "weight")


def biases(model: nn.Module, kind: type[nn.Module]) -> list[Tensor]:
    return _parameters(model, kind, "bias")


def _parameters(model: nn.Module, kind: type[nn.Module], name: str) -> list[Tensor]:
    found = [getattr(module, name) for module in model.modules() if isinstance(module, kind)]
    return [parameter.detach() for parameter in found if parameter is not None]


def assert_normal(weight: Tensor, std: float) -> None:
    """Mean 0 and the std within five standard errors, with tails that a uniform law has not."""
    count = weight.numel()
    assert abs(weight.mean().item()) < 5 * std / math.sqrt(count)
    assert weight.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * count))
    if count >= 2000:
        assert weight.abs().max().item() > 2.2 * std


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_resnet20_is_kaiming_normal() -> None:
    model = build_model("resnet20", 10)
    for weight in weights(model, nn.Conv2d) + weights(model, nn.Linear):
        assert_normal(weight, math.sqrt(2 / weight[0].numel()))


def test_wide_resnet_is_xavier_uniform_with_zero_biases() -> None:
    model = build_model("wrn_16_2", 10)
    for weight in weights(model, nn.Conv2d):
        out_channels, in_channels, height, width = weight.shape
        bound = math.sqrt(2) * math.sqrt(6 / ((in_channels + out_channels) * height * width))
        assert weight.abs().max().item() <= bound
        assert weight.abs().max().item() > 0.98 * bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert all(bool((bias == 0).all()) for bias in biases(model, nn.Conv2d))


@pytest.mark.parametrize(("name", "features"), [("wrn_16_2", 128), ("mobilenet", 1024)])
def test_linear_layer_keeps_pytorchs_default(name: str, features: int) -> None:
    model = build_model(name, 100)
    bound = 1 / math.sqrt(features)
    for tensor in weights(model, nn.Linear) + biases(model, nn.Linear):
        assert 0.9 * bound < tensor.abs().max().item() <= bound


@pytest.mark.parametrize("name", ["mobilenet", "resnet34_small_stem"])
def test_convolutions_keep_pytorchs_default(name: str) -> None:
    for weight in weights(build_model(name, 10), nn.Conv2d):
        bound = 1 / math.sqrt(weight[0].numel())
        assert 0.9 * bound < weight.abs().max().item() <= bound


def test_mobilenet_v2_is_normal_by_kernel_area_and_output_channels() -> None:
    model = build_model("mobilenet_v2_x0_5", 100)
    for weight in weights(model, nn.Conv2d):
        out_channels, _, height, width = weight.shape
        assert_normal(weight, math.sqrt(2 / (height * width * out_channels)))
    (linear,) = weights(model, nn.Linear)
    assert_normal(linear, 0.01)
    (bias,) = biases(model, nn.Linear)
    assert bool((bias == 0).all())


@pytest.mark.parametrize("name", ["mobilenet", "wrn_16_2", "resnet34_small_stem"])
def test_fan_in_normal(name: str) -> None:
    model = build_model(name, 100)
    for weight in weights(model, nn.BatchNorm2d):
        weight.fill_(3.0)
    for bias in biases(model, nn.BatchNorm2d) + biases(model, nn.Conv2d):
        bias.uniform_(-1, 1)
    before = copy.deepcopy(model)
    initialize(model, "fan_in_normal")

    for weight in weights(model, nn.Conv2d) + weights(model, nn.Linear):
        # 9 for a depthwise 3 x 3 kernel, and 1 / fan_in is not the usual 1 / sqrt(fan_in)
        assert_normal(weight, 1 / weight[0].numel())
    assert all(bool((weight == 1).all()) for weight in weights(model, nn.BatchNorm2d))
    for kind in (nn.Conv2d, nn.Linear, nn.BatchNorm2d):
        for old, new in zip(biases(before, kind), biases(model, kind), strict=True):
            assert torch.equal(old, new)


def test_default_leaves_the_constructors_weights() -> None:
    model = build_model("wrn_16_1", 10)
    before = copy.deepcopy(model.state_dict())
    initialize(model, "default")
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_same_seed_same_weights() -> None:
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        model = build_model("resnet20", 10)
        initialize(model, "fan_in_normal")
        states.append(weights(model, nn.Conv2d)[0])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_known_schemes_are_the_listed_ones() -> None:
    for scheme in INITIALIZATIONS:
        initialize(nn.Linear(2, 2), scheme)
    with pytest.raises(ValueError, match=r"unknown init 'xavier' \(known: default, fan_in_normal"):
        initialize(nn.Linear(2, 2), "xavier")
