"""Attention transfer: the student looks where the teacher looks, stage by stage.

Source: method.md section 4; Zagoruyko & Komodakis, Paying More Attention to Attention, ICLR 2017.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from switokd.methods.losses import Predictions, maps_of_one_size
from switokd.methods.offline import OfflineMethod
from switokd.methods.settings import ATSettings


class AT(OfflineMethod):
    """CE(z_s, y) + weight sum over stages of mean((norm(mean_c f_s^2) - norm(mean_c f_t^2))^2).

    The last stages belong together, then those before them, as far as both networks have one. The
    larger of two maps is average-pooled down.
    """

    settings: ATSettings

    recordable = True

    def maps_of(self, network: str) -> tuple[str, ...]:
        return self.stages_of(network)

    def student_loss(self, predictions: Predictions, student: str) -> Tensor:
        loss = predictions.cross_entropies[student]
        for teacher in self.teachers:
            distances = [
                (attention(own) - attention(shown)).square().mean()
                for own, shown in self._pairs(predictions, student, teacher)
            ]
            loss = loss + self.settings.weight * sum(distances)
        return loss

    def _pairs(
        self, predictions: Predictions, student: str, teacher: str
    ) -> list[tuple[Tensor, Tensor]]:
        pairs = zip(
            reversed(self.stages_of(student)), reversed(self.stages_of(teacher)), strict=False
        )
        return [
            maps_of_one_size(
                predictions.maps[student][own], predictions.maps[teacher][shown].detach()
            )
            for own, shown in pairs
        ]


def attention(maps: Tensor) -> Tensor:
    """Maps (B, C, H, W) to where they are large, (B, H W) of L2 norm 1."""
    return F.normalize(maps.square().mean(dim=1).flatten(1), dim=1)
