"""FitNets: the student's middle map is led to the teacher's by a regressor.

Source: method.md section 4; Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from switokd.methods.base import Surroundings
from switokd.methods.losses import Predictions, maps_of_one_size
from switokd.methods.offline import OfflineMethod
from switokd.methods.settings import FitNetSettings


class FitNet(OfflineMethod):
    """CE(z_s, y) + weight MSE(regressor(f_s), f_t), f the maps of one middle stage each.

    The regressor is a 1 x 1 convolution with batch norm, trained with the student. Where the maps'
    sizes differ, the larger one is average-pooled down.
    """

    settings: FitNetSettings

    recordable = True

    def maps_of(self, network: str) -> tuple[str, ...]:
        return (self.middle_stage(network),)

    def middle_stage(self, network: str) -> str:
        """The middle one of the network's stages; of an even number the one before the middle."""
        stages = self.stages_of(network)
        return stages[(len(stages) - 1) // 2]

    def attach(self, surroundings: Surroundings) -> Mapping[str, nn.Module]:
        channels = {
            name: surroundings.shapes[name][self.middle_stage(name)][0] for name in self.networks
        }
        self._regressors = {
            student: nn.ModuleDict(
                {name: regressor(channels[student], channels[name]) for name in self.teachers}
            )
            for student in self.students
        }
        return self._regressors

    def student_loss(self, predictions: Predictions, student: str) -> Tensor:
        loss = predictions.cross_entropies[student]
        own = predictions.maps[student][self.middle_stage(student)]
        for teacher in self.teachers:
            hint = predictions.maps[teacher][self.middle_stage(teacher)].detach()
            guided, hint = maps_of_one_size(own, hint)
            regressed = self._regressors[student][teacher](guided)
            loss = loss + self.settings.weight * F.mse_loss(regressed, hint)
        return loss


def regressor(channels: int, wanted: int) -> nn.Module:
    """Maps (B, channels, H, W) to (B, wanted, H, W)."""
    # the norm has the bias
    return nn.Sequential(nn.Conv2d(channels, wanted, 1, bias=False), nn.BatchNorm2d(wanted))
