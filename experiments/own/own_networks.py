"""A network of one's own: any callable that takes `num_classes` and gives a torch module."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class SmallConvNet(nn.Module):
    """Convolutions of growing width, batch norm and ReLU, an average over the image, one layer."""

    def __init__(self, num_classes: int, width: int = 16, depth: int = 2) -> None:
        super().__init__()
        channels = [3, *(width * 2**step for step in range(depth))]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to logits (B, num_classes)."""
        logits: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits


def small(num_classes: int, width: int = 16) -> nn.Module:
    """A student; `arguments: {width: 8}` makes a narrower one."""
    return SmallConvNet(num_classes, width)
