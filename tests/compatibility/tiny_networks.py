"""Networks small enough that checkpoints of them can lie in the repository."""

from __future__ import annotations

from torch import Tensor, nn

from switokd.models.blueprint import blueprint

TINY_NETWORKS = {
    "tiny": "tests.compatibility.tiny_networks:tiny",
    "tiny_wide": "tests.compatibility.tiny_networks:tiny_wide",
}


STAGES = ("bn1", "bn2")


class TinyConvNet(nn.Module):
    """Two convolutions with batch norm, a pool, a linear layer."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.linear = nn.Linear(2 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.bn1(self.conv1(images)).relu()
        hidden = self.bn2(self.conv2(hidden)).relu()
        logits: Tensor = self.linear(hidden.mean(dim=(2, 3)))
        return logits


@blueprint(nominal_classes=10, target_layer="bn2", reference="none", stages=STAGES)
def tiny(num_classes: int) -> nn.Module:
    """A student."""
    return TinyConvNet(4, num_classes)


@blueprint(nominal_classes=10, target_layer="bn2", reference="none", stages=STAGES)
def tiny_wide(num_classes: int) -> nn.Module:
    """A teacher."""
    return TinyConvNet(8, num_classes)
