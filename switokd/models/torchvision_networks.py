"""The networks that the paper takes from torchvision, untrained."""

from __future__ import annotations

from torch import nn
from torchvision import models as torchvision_models

from switokd.models.blueprint import blueprint

RESNET_STAGES = ("layer1", "layer2", "layer3", "layer4")
RESNET_REFERENCE = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016"


@blueprint(
    nominal_classes=200,
    target_layer="features",
    stages=("features.3", "features.6", "features.13", "features.17"),
    reference="Sandler et al., MobileNetV2, CVPR 2018",
)
def mobilenet_v2_x1_4(num_classes: int) -> nn.Module:
    """MobileNetV2 at width 1.4; its dropout draws from torch's global generator in training."""
    return torchvision_models.MobileNetV2(num_classes=num_classes, width_mult=1.4)


@blueprint(
    nominal_classes=1000, target_layer="layer4", stages=RESNET_STAGES, reference=RESNET_REFERENCE
)
def resnet18(num_classes: int) -> nn.Module:
    """ResNet-18 with the ImageNet stem."""
    return torchvision_models.resnet18(num_classes=num_classes)


@blueprint(
    nominal_classes=1000, target_layer="layer4", stages=RESNET_STAGES, reference=RESNET_REFERENCE
)
def resnet34(num_classes: int) -> nn.Module:
    """ResNet-34 with the ImageNet stem."""
    return torchvision_models.resnet34(num_classes=num_classes)
