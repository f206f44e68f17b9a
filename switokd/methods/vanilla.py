"""Every network alone: cross-entropy with the labels, the baseline of all comparisons."""

from __future__ import annotations

from switokd.methods.base import CohortStep, Method
from switokd.methods.losses import Predictions


class Vanilla(Method):
    """CE(z_i, y) for each network."""

    recordable = True

    def step(self, predictions: Predictions) -> CohortStep:
        return self.unswitched(predictions, dict(predictions.cross_entropies))
