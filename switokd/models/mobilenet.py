"""MobileNet v1 for 32 x 32 images: the first stride of the ImageNet network is left out."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from switokd.models.blueprint import blueprint

# (channels, stride) of each block; the stem has STEM_CHANNELS
STEM_CHANNELS = 32
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)


class SeparableBlock(nn.Module):
    """3 x 3 depthwise, then 1 x 1 pointwise convolution, each with batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False
        )
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(x)), inplace=True)


class MobileNet(nn.Module):
    """Stem, 13 separable blocks, global average pool, linear layer; PyTorch's default weights."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM_CHANNELS, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.layers = nn.Sequential()
        channels = STEM_CHANNELS
        for out_channels, stride in BLOCKS:
            self.layers.append(SeparableBlock(channels, out_channels, stride))
            channels = out_channels
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = self.layers(x)
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


@blueprint(
    nominal_classes=100,
    target_layer="layers",
    stages=("layers.0", "layers.2", "layers.4", "layers.10", "layers.12"),
    reference="Howard et al., MobileNets, arXiv 1704.04861, 2017",
)
def mobilenet(num_classes: int) -> nn.Module:
    """MobileNet v1, width 1."""
    return MobileNet(num_classes)
