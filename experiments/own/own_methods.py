"""A method of one's own: a subclass of `Method`, with the settings that a file may give it."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field

from switokd.methods.base import CohortStep, Method
from switokd.methods.losses import Predictions
from switokd.methods.settings import MethodSettings
from switokd.validation import Finite


class LogitMatchingSettings(MethodSettings):
    """weight: of the distance between the logits."""

    uses_temperature: ClassVar[bool] = False
    has_roles: ClassVar[bool] = True
    takes_frozen: ClassVar[bool] = True

    weight: Annotated[Finite, Field(ge=0)] = 1.0


class LogitMatching(Method):
    """Students regress the mean of the teachers' logits (Ba & Caruana, NeurIPS 2014).

    CE(z_s, y) + weight * mean squared error of z_s from the mean of z_t; teachers learn alone.
    """

    settings_class = LogitMatchingSettings
    settings: LogitMatchingSettings

    def step(self, predictions: Predictions) -> CohortStep:
        """The loss of every network, with gradient to that network alone."""
        logits = predictions.logits
        target = torch.stack([logits[name] for name in self.teachers]).mean(dim=0).detach()
        losses = dict(predictions.cross_entropies)
        for name in self.students:
            losses[name] = losses[name] + self.settings.weight * F.mse_loss(logits[name], target)
        return self.unswitched(predictions, losses)
