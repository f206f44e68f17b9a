"""MobileNetV2 in the form of the route-constrained work (Jin et al., ICCV 2019).

It differs from torchvision's: widths are truncated and not rounded to multiples of 8, every block
has its expansion convolution (at expansion 1 too), the activation is plain ReLU, the second stage
keeps the resolution, and there is no dropout.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from switokd.models.blueprint import blueprint

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
# (expansion, channels at width 1, blocks, stride of the first block) of each stage
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand, filter by channel, project; added to the input where the shapes allow."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.residual = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """Stem of stride 2, seven stages, 1 x 1 head, global average pool, linear layer.

    `width` scales every layer but the head, which only grows (`width` > 1).
    """

    def __init__(self, width: float, num_classes: int) -> None:
        super().__init__()
        channels = int(STEM_CHANNELS * width)
        head_channels = int(HEAD_CHANNELS * max(1.0, width))
        self.conv1 = _conv_bn_relu(3, channels, kernel_size=3, stride=2)
        self.blocks = nn.ModuleList()
        for expansion, nominal_channels, blocks, stride in STAGES:
            out_channels = int(nominal_channels * width)
            stage = nn.Sequential()
            for block_stride in (stride, *[1] * (blocks - 1)):
                stage.append(InvertedResidual(channels, out_channels, block_stride, expansion))
                channels = out_channels
            self.blocks.append(stage)
        self.conv2 = _conv_bn_relu(channels, head_channels, kernel_size=1, stride=1)
        # a sequence of one, because the published key is classifier.0
        self.classifier = nn.Sequential(nn.Linear(head_channels, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # std = sqrt(2 / (k k out)), depthwise convolutions included
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv1(images)
        for stage in self.blocks:
            x = stage(x)
        x = self.conv2(x)
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _conv_bn_relu(
    in_channels: int, out_channels: int, kernel_size: int, stride: int
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


@blueprint(
    nominal_classes=100,
    target_layer="conv2",
    stages=("blocks.1", "blocks.2", "blocks.4", "blocks.6"),
    reference="Sandler et al., MobileNetV2, CVPR 2018; form of Jin et al., ICCV 2019",
)
def mobilenet_v2_x0_5(num_classes: int) -> nn.Module:
    """MobileNetV2 at half width, for 32 x 32 images."""
    return MobileNetV2(0.5, num_classes)
