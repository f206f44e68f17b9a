"""Grey images, memory formats, precisions and the compiler: what each network must take."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from switokd.models import build_model
from tests.models.definitions import build_shaken

SMALL_NETWORKS = ["resnet20", "wrn_16_1", "mobilenet_v2_x0_5"]


@pytest.fixture(params=SMALL_NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return build_model(request.param, 10)


def test_grey_is_three_equal_channels(network: nn.Module) -> None:
    grey = torch.randn(4, 1, 16, 16)
    colour = grey.repeat(1, 3, 1, 1)
    assert torch.equal(copy.deepcopy(network)(grey), copy.deepcopy(network)(colour))


@pytest.mark.parametrize("name", ["mobilenet", "mobilenet_v2_x1_4", "resnet34_small_stem"])
def test_grey_is_three_equal_channels_in_larger_networks(name: str) -> None:
    model = build_model(name, 10).eval()
    grey = torch.randn(2, 1, 8, 8)
    assert torch.equal(model(grey), model(grey.repeat(1, 3, 1, 1)))


def test_grey_is_widened_without_a_copy(network: nn.Module) -> None:
    seen: list[Tensor] = []
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    grey = torch.randn(4, 1, 16, 16)
    network(grey)
    assert seen[0].shape == (4, 3, 16, 16)
    assert seen[0].data_ptr() == grey.data_ptr()


def test_grey_survives_copying_and_pickling(network: nn.Module) -> None:
    network.eval()
    grey = torch.randn(2, 1, 16, 16)
    expected = network(grey)
    assert torch.equal(copy.deepcopy(network)(grey), expected)
    assert torch.equal(pickle.loads(pickle.dumps(network))(grey), expected)


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channel_counts_are_refused(network: nn.Module, channels: int) -> None:
    with pytest.raises(RuntimeError, match="channels"):
        network(torch.randn(2, channels, 16, 16))


def test_tiny_images_train(network: nn.Module) -> None:
    logits = network(torch.randn(4, 1, 8, 8))
    logits.square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_changes_nothing(channels: int) -> None:
    images = torch.randn(4, channels, 16, 16, dtype=torch.float64)
    for name in SMALL_NETWORKS:
        model = build_shaken(name, 10)
        expected = copy.deepcopy(model)(images)
        model = model.to(memory_format=torch.channels_last)
        actual = model(images.to(memory_format=torch.channels_last))
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


def test_bfloat16_autocast(network: nn.Module) -> None:
    network.eval()
    images = torch.randn(4, 1, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(images)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), network(images), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_1"])
def test_compiles_in_one_graph(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, 10)
    images = torch.randn(4, 1, 16, 16)
    expected = copy.deepcopy(model)(images)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), expected)
