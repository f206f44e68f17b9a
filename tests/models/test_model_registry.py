"""The registry, and what holds for every network of it."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from switokd.models import MODELS, build_model, describe, target_layer

# method.md section 5
PARAMETERS = {
    ("resnet20", 10): 269_722,
    ("resnet20", 200): 282_072,
    ("wrn_16_1", 10): 175_626,
    ("wrn_16_2", 100): 704_420,
    ("wrn_16_8", 10): 10_965_866,
    ("wrn_16_10", 100): 17_179_940,
    ("mobilenet", 100): 3_309_476,
    ("mobilenet_v2_x0_5", 100): 812_836,
    ("mobilenet_v2_x1_4", 200): 4_674_376,
    ("resnet34_small_stem", 200): 21_379_592,
    ("resnet18", 1000): 11_689_512,
    ("resnet34", 1000): 21_797_672,
}

# what the classifier pools for a 64 x 64 image: (channels, height, width)
POOLED_MAPS = {
    "resnet20": (64, 16, 16),
    "wrn_16_1": (64, 16, 16),
    "wrn_16_2": (128, 16, 16),
    "wrn_16_8": (512, 16, 16),
    "wrn_16_10": (640, 16, 16),
    "mobilenet": (1024, 4, 4),
    "mobilenet_v2_x0_5": (1280, 4, 4),
    "mobilenet_v2_x1_4": (1792, 2, 2),
    "resnet34_small_stem": (512, 8, 8),
    "resnet18": (512, 2, 2),
    "resnet34": (512, 2, 2),
}


def build_on_meta(name: str, num_classes: int) -> nn.Module:
    with torch.device("meta"):
        return build_model(name, num_classes)


@pytest.mark.parametrize(("name", "num_classes"), PARAMETERS)
def test_parameter_count_is_the_published_one(name: str, num_classes: int) -> None:
    model = build_on_meta(name, num_classes)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name, num_classes]


def test_every_network_has_a_published_count_and_a_card() -> None:
    assert {name for name, _ in PARAMETERS} == set(MODELS)
    cards = describe()
    assert [card.name for card in cards] == list(MODELS)
    for card in cards:
        assert card.parameters == PARAMETERS[card.name, card.nominal_classes]
        assert card.reference.rstrip()[-4:].isdigit(), "a reference ends with its year"


@pytest.mark.parametrize("name", MODELS)
def test_takes_any_input_size(name: str) -> None:
    model = build_on_meta(name, 7)
    for channels, height, width in [(1, 8, 8), (3, 8, 8), (1, 33, 40), (3, 224, 224)]:
        logits = model(torch.empty(2, channels, height, width, device="meta"))
        assert logits.shape == (2, 7), (channels, height, width)


@pytest.mark.parametrize("name", MODELS)
def test_target_layer_is_what_the_classifier_pools(name: str) -> None:
    model = build_on_meta(name, 7)
    seen: list[torch.Size] = []
    target_layer(name, model).register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.shape)
    )
    model(torch.empty(2, 3, 64, 64, device="meta"))
    assert seen == [(2, *POOLED_MAPS[name])]


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_1", "mobilenet", "mobilenet_v2_x0_5"])
def test_pooled_map_of_the_target_layer_gives_the_logits(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, 7).eval()
    maps: list[Tensor] = []
    target_layer(name, model).register_forward_hook(
        lambda _module, _inputs, output: maps.append(output)
    )
    logits = model(torch.randn(2, 3, 32, 32))
    classifier = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    torch.testing.assert_close(logits, classifier(maps[0].mean(dim=(2, 3))))


@pytest.mark.parametrize(("typo", "nearest"), [("resnet02", "resnet20"), ("wrn16_10", "wrn_16_10")])
def test_unknown_name_offers_the_nearest(typo: str, nearest: str) -> None:
    message = f"unknown network {typo!r}; did you mean {nearest!r}? (known: mobilenet,"
    with pytest.raises(ValueError, match=re.escape(message)):
        build_model(typo, 10)
    with pytest.raises(ValueError, match=re.escape(message)):
        target_layer(typo, nn.Identity())


def test_no_class_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 1, not 0"):
        build_model("resnet20", 0)
