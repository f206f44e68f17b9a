"""Knowledge distillation: the student imitates the softened answers of a trained teacher.

Source: method.md section 4; Hinton et al., Distilling the Knowledge in a Neural Network, 2015.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from switokd.methods.losses import Predictions, kl_divergence
from switokd.methods.offline import OfflineMethod
from switokd.methods.settings import KDSettings


class KD(OfflineMethod):
    """gamma CE(z_s, y) + alpha T^2 KL(p_t || p_s), at a temperature T of its own."""

    settings: KDSettings

    recordable = True

    def student_loss(self, predictions: Predictions, student: str) -> Tensor:
        settings = self.settings
        loss = settings.gamma * predictions.cross_entropies[student]
        if settings.alpha:
            own = self._softened(predictions, student)
            for teacher in self.teachers:
                taught = kl_divergence(self._softened(predictions, teacher), own)
                loss = loss + settings.alpha * settings.temperature**2 * taught
        return loss

    def _softened(self, predictions: Predictions, network: str) -> Tensor:
        return F.log_softmax(predictions.logits[network] / self.settings.temperature, dim=1)
