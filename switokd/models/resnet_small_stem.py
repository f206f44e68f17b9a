"""ResNet-34 for 64 x 64 images: a 3 x 3 stem of stride 1 and no max pool.

Not torchvision's class with another stem, because the published weights have other keys.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from switokd.models.blueprint import blueprint


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions (`left`), added to the input or to its 1 x 1 projection, then ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.left = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut.append(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.left(x) + self.shortcut(x), inplace=True)


class SmallStemResNet(nn.Module):
    """Four stages of 64 to 512 channels at full resolution; PyTorch's default weights."""

    def __init__(self, blocks_per_stage: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
        )
        self.layer1 = _stage(64, 64, blocks_per_stage[0], stride=1)
        self.layer2 = _stage(64, 128, blocks_per_stage[1], stride=2)
        self.layer3 = _stage(128, 256, blocks_per_stage[2], stride=2)
        self.layer4 = _stage(256, 512, blocks_per_stage[3], stride=2)
        self.fc = nn.Linear(512, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.conv1(images)))
        x = self.layer4(self.layer3(x))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = ResidualBlock(in_channels, out_channels, stride)
    return nn.Sequential(
        first, *(ResidualBlock(out_channels, out_channels, 1) for _ in range(blocks - 1))
    )


@blueprint(
    nominal_classes=200,
    target_layer="layer4",
    stages=("layer1", "layer2", "layer3", "layer4"),
    reference="He et al., Deep Residual Learning for Image Recognition, CVPR 2016",
)
def resnet34_small_stem(num_classes: int) -> nn.Module:
    """ResNet-34 with the small stem."""
    return SmallStemResNet((3, 4, 6, 3), num_classes)
