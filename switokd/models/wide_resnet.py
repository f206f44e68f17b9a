"""Wide residual networks, as the paper's authors train them.

They differ from Zagoruyko & Komodakis in that every convolution has a bias, a block's stride sits
on its second convolution, the 1 x 1 shortcut sees the raw input of the block, and the last batch
norm has momentum 0.9.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from switokd.models.blueprint import blueprint

STAGES = ("layer1", "layer2", "layer3")
REFERENCE = "Zagoruyko & Komodakis, Wide Residual Networks, BMVC 2016"


class WideBlock(nn.Module):
    """Pre-activation block: (batch norm, ReLU, 3 x 3 convolution) twice, plus the raw input."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride, padding=1)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut.append(nn.Conv2d(in_channels, out_channels, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x), inplace=True))
        out = self.conv2(F.relu(self.bn2(out), inplace=True))
        return out + self.shortcut(x)


class WideResNet(nn.Module):
    """WRN-depth-width: stages of 16, 32 and 64 channels, each `width` times as wide."""

    def __init__(self, depth: int, width: int, num_classes: int) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        assert rest == 0, f"depth must be 6n + 4, not {depth}"
        channels = 64 * width
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.layer1 = _stage(16, 16 * width, blocks, stride=1)
        self.layer2 = _stage(16 * width, 32 * width, blocks, stride=2)
        self.layer3 = _stage(32 * width, channels, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(channels, momentum=0.9)
        # a module, unlike the other activations, so that Grad-CAM finds what the classifier pools
        self.relu = nn.ReLU()
        self.linear = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight, gain=math.sqrt(2))
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(images))))
        x = self.relu(self.bn1(x))
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = WideBlock(in_channels, out_channels, stride)
    return nn.Sequential(
        first, *(WideBlock(out_channels, out_channels, 1) for _ in range(blocks - 1))
    )


@blueprint(nominal_classes=10, target_layer="relu", stages=STAGES, reference=REFERENCE)
def wrn_16_1(num_classes: int) -> nn.Module:
    """WRN-16-1."""
    return WideResNet(16, 1, num_classes)


@blueprint(nominal_classes=100, target_layer="relu", stages=STAGES, reference=REFERENCE)
def wrn_16_2(num_classes: int) -> nn.Module:
    """WRN-16-2."""
    return WideResNet(16, 2, num_classes)


@blueprint(nominal_classes=10, target_layer="relu", stages=STAGES, reference=REFERENCE)
def wrn_16_8(num_classes: int) -> nn.Module:
    """WRN-16-8."""
    return WideResNet(16, 8, num_classes)


@blueprint(nominal_classes=100, target_layer="relu", stages=STAGES, reference=REFERENCE)
def wrn_16_10(num_classes: int) -> nn.Module:
    """WRN-16-10."""
    return WideResNet(16, 10, num_classes)
