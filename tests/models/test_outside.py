"""Networks from outside the zoo are built as ours are; what is wrong with one is one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from switokd.models import build_model, checked_model, describe, stage_of, target_layer
from switokd.models.outside import Origin
from switokd.validation import SpecError
from tests.conftest import UserModule

NETWORKS = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, num_classes, width):
            super().__init__()
            self.early = nn.Conv2d(3, width, 3, stride=2)
            self.late = nn.Conv2d(width, width, 3, stride=2)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.linear = nn.Linear(width, num_classes)

        def forward(self, images):
            return self.linear(self.pool(self.late(self.early(images))).flatten(1))

    def net(num_classes, width=4):
        print("building")
        return Net(num_classes, width)

    def wants_more(num_classes, width, depth=2): ...
    def other_name(classes): ...
    def broken(num_classes): raise KeyError("oh")
    def no_module(num_classes): return num_classes
    value = 3
"""


@pytest.fixture
def module(user_module: UserModule) -> str:
    return user_module(NETWORKS)


def complaint(model: str, **arguments: Any) -> str:
    with pytest.raises(SpecError) as raised:
        build_model(model, 7, Origin(arguments))
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    "model", ["brought:net", "torchvision/shufflenet_v2_x0_5", "timm/resnet10t"]
)
def test_is_called_as_ours_are_grey_or_coloured(
    module: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    first = build_model(checked_model(model), 7).eval()
    torch.manual_seed(0)
    second = build_model(model, 7).eval()
    grey = torch.rand(2, 1, 40, 40)
    assert first(grey).shape == (2, 7)
    assert torch.equal(first(grey), second(grey.expand(-1, 3, -1, -1)))
    (card,) = describe([model])
    ours = sum(p.numel() for p in build_model(model, card.nominal_classes).parameters())
    assert card.parameters == ours
    assert capsys.readouterr().out == "", "what a builder prints is not printed among ours"


def test_arguments_reach_the_builder(module: str) -> None:
    assert build_model("brought:net", 7, Origin({"width": 9})).early.out_channels == 9
    assert build_model("brought:Net", 7, Origin({"width": 3})).late.out_channels == 3


@pytest.mark.parametrize(
    ("model", "arguments", "told"),
    [
        ("brought:wants_more", {}, "missing a required argument: 'width' (it takes: num_classes, "),
        ("brought:other_name", {}, "missing a required argument: 'classes' (it takes: classes; "),
        ("brought:net", {"wide": 3}, "got an unexpected keyword argument 'wide' (it takes: "),
        ("brought:net", {"num_classes": 3}, "num_classes is the data set's"),
        ("brought:broken", {}, "cannot be built with num_classes=7: KeyError: 'oh' (brought.py, "),
        ("brought:no_module", {}, "must give a torch.nn.Module (found int)"),
        ("brought:value", {}, "must be a callable (found int)"),
        ("brought:nett", {}, "has no 'nett'; did you mean 'net'?"),
        ("resnet20", {"width": 3}, "resnet20 is of the zoo and takes none (found {'width': 3})"),
        ("torchvision/resnet81", {}, "unknown network of torchvision 'resnet81'; did you mean '"),
        ("timm/resnet10x", {}, "unknown network of timm 'resnet10x'; did you mean 'resnet10t'?"),
        ("timm/resnet10t", {"pretrained": True}, "pretrained: trained weights are taken from a "),
        ("torchvision/resnet18", {"weights": "DEFAULT"}, "weights: trained weights are taken from"),
        ("torchvision/resnet18", {"depth": 3}, "cannot be built with num_classes=7, depth=3: Type"),
    ],
)
def test_what_cannot_be_built_is_told_in_one_line(
    module: str, model: str, arguments: dict[str, Any], told: str
) -> None:
    assert told in complaint(model, **arguments)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("timn/resnet10t", "unknown library of networks 'timn'; did you mean 'timm'?"),
        ("a b:c", "must be package.module:callable (found 'a b:c')"),
        ("brought:", "must be package.module:callable (found 'brought:')"),
        ("wrn_16_3", "unknown network 'wrn_16_3'; did you mean 'wrn_16_"),
    ],
)
def test_a_name_of_no_form_is_refused_before_anything_is_imported(model: str, told: str) -> None:
    with pytest.raises(SpecError) as raised:
        checked_model(model)
    assert told in str(raised.value)


def test_the_layer_to_explain_is_the_one_named_or_the_last_with_a_map(module: str) -> None:
    network = build_model("brought:net", 7).train()
    images = torch.rand(2, 3, 16, 16)
    assert target_layer("brought:net", network, images=images) is network.late
    assert network.training
    assert not any(m._forward_hooks for m in network.modules())
    named = Origin(target_layer="early")
    assert target_layer("brought:net", network, named) is network.early
    with pytest.raises(SpecError, match="has no layer 'erly'; did you mean 'early'"):
        target_layer("brought:net", network, Origin(target_layer="erly"))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 7))
    with pytest.raises(SpecError, match="none of its layers gives a map"):
        target_layer("brought:net", flat, images=images)
    with pytest.raises(SpecError, match="unknown stage of resnet20"):
        stage_of("resnet20", build_model("resnet20", 7), "stage9")
