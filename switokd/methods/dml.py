"""Deep mutual learning: every network imitates the mean of its peers.

Source: method.md section 4; Zhang et al., Deep Mutual Learning, CVPR 2018.
"""

from __future__ import annotations

from switokd.methods.base import CohortStep, Method
from switokd.methods.losses import Predictions


class DML(Method):
    """CE(z_i, y) + tau^2 / (N - 1) sum over peers j of KL(p_j || p_i), peers detached."""

    recordable = True

    def step(self, predictions: Predictions) -> CohortStep:
        losses = {}
        for network in self.networks:
            peers = [predictions.imitation(p, network) for p in self.networks if p != network]
            losses[network] = predictions.cross_entropies[network]
            if peers:
                losses[network] = losses[network] + sum(peers) / len(peers)
        return self.unswitched(predictions, losses)
