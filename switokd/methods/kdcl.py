"""Collaborative learning: all networks imitate one ensemble of their logits.

Source: method.md section 4; Guo et al., Online Knowledge Distillation via Collaborative Learning,
CVPR 2020. The variants differ in how the ensemble's logits come from the networks'.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from switokd.methods.base import CohortStep, Method, Surroundings
from switokd.methods.losses import Predictions, kl_divergence
from switokd.methods.settings import KDCLSettings

# halvings of an interval of length 1; with more than two networks, rounds over all pairs, fewer
# where a round moves no share by more than the tolerance
BISECTIONS = 24
LONGEST_ROUNDS = 60
SHARE_TOLERANCE = 1e-6


class KDCL(Method):
    """CE(z_i, y) + weight tau^2 KL(p_ens || p_i), the ensemble detached."""

    settings: KDCLSettings

    def __init__(
        self, teachers: int, students: int, temperature: float, settings: KDCLSettings
    ) -> None:
        super().__init__(teachers, students, temperature, settings)
        count = len(self.networks)
        # equal shares until the first look at held-out data
        self.shares = torch.full((count,), 1 / count, dtype=torch.float64)

    @property
    def views(self) -> int:
        return len(self.networks) if self.settings.views == "own" else 1

    @property
    def recordable(self) -> bool:
        """All but the search for more than two networks' shares, which ends where it converged."""
        return self.settings.variant != "linear" or len(self.networks) <= 2

    def attach(self, surroundings: Surroundings) -> Mapping[str, nn.Module]:
        """No modules; the shares go where the logits are."""
        self.shares = self.shares.to(surroundings.device)
        return {}

    def step(self, predictions: Predictions) -> CohortStep:
        with torch.no_grad():
            logits = torch.stack([predictions.logits[name] for name in self.networks])
            if self.settings.variant == "general":
                ensemble = combine(logits, self.shares.to(logits)[:, None].expand(logits.shape[:2]))
            else:
                ensemble = ENSEMBLES[self.settings.variant](logits, predictions.targets)
            target = F.log_softmax(ensemble / self.temperature, dim=1)
        scale = self.settings.weight * self.temperature**2
        losses = {
            name: predictions.cross_entropies[name]
            + scale * kl_divergence(target, predictions.log_probabilities[name])
            for name in self.networks
        }
        return self.unswitched(predictions, losses)

    def refresh(self, predictions: Predictions) -> None:
        """Take the `general` variant's shares from the networks' errors on held-out data."""
        logits = torch.stack([predictions.logits[name] for name in self.networks])
        self.shares.copy_(error_shares(logits, predictions.targets))

    def state_dict(self) -> dict[str, Tensor]:
        return {"shares": self.shares.to("cpu", copy=True)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.shares.copy_(state["shares"])


def combine(logits: Tensor, shares: Tensor) -> Tensor:
    """The sum of logits (N, B, K) weighted by shares (N, B), per image: (B, K)."""
    return torch.einsum("nbk,nb->bk", logits, shares)


def naive_ensemble(logits: Tensor, targets: Tensor) -> Tensor:
    """Per image, the logits of the network with the lowest cross-entropy: (N, B, K) to (B, K)."""
    losses = torch.stack([F.cross_entropy(z, targets, reduction="none") for z in logits])
    return logits[losses.argmin(dim=0), torch.arange(len(targets), device=logits.device)]


def minlogit_ensemble(logits: Tensor, targets: Tensor) -> Tensor:
    """Per class, the lowest logit over networks after each is shifted to 0 at the label."""
    at_label = targets.expand(len(logits), -1).unsqueeze(2)
    return (logits - logits.gather(2, at_label)).amin(dim=0)


def linear_ensemble(logits: Tensor, targets: Tensor) -> Tensor:
    """Per image, the convex combination of the networks' logits with the lowest cross-entropy.

    The loss is convex in the shares, so that moving share between two networks at a time, each
    move found by bisection on the slope, reaches the minimum; two networks need one move.
    """
    count, batch, _ = logits.shape
    shares = torch.full((count, batch), 1 / count, dtype=logits.dtype, device=logits.device)
    pairs = list(itertools.combinations(range(count), 2))
    for _ in range(LONGEST_ROUNDS):
        before = shares.clone()
        for first, second in pairs:
            _share_out(first, second, shares, logits, targets)
        if len(pairs) <= 1 or (shares - before).abs().max() < SHARE_TOLERANCE:
            break
    return combine(logits, shares)


def _share_out(first: int, second: int, shares: Tensor, logits: Tensor, targets: Tensor) -> None:
    """Move share between two networks, in place, to the lowest loss along that line."""
    direction = logits[first] - logits[second]
    slope_at_label = direction.gather(1, targets.unsqueeze(1)).squeeze(1)
    low, high = -shares[first], shares[second].clone()
    present = combine(logits, shares)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        moved = torch.softmax(present + middle.unsqueeze(1) * direction, dim=1)
        uphill = (moved * direction).sum(dim=1) > slope_at_label
        high = torch.where(uphill, middle, high)
        low = torch.where(uphill, low, middle)
    move = (low + high) / 2
    shares[first] += move
    shares[second] -= move


def error_shares(logits: Tensor, targets: Tensor) -> Tensor:
    """Shares (N,) proportional to C^-1 1, C the covariance (N, N) of the networks' errors.

    C_ij = mean over images of (p_i - y) . (p_j - y), for logits (N, M, K) of held-out images. The
    shares add up to 1; a share may be negative where errors correlate strongly.
    """
    errors = torch.softmax(logits.double(), dim=2)
    errors = errors - F.one_hot(targets, logits.shape[2])
    covariance = torch.einsum("imk,jmk->ij", errors, errors) / len(targets)
    # networks with equal errors leave C singular; then any split of their share is as good
    ridge = 1e-8 * covariance.diagonal().mean().clamp_min(1e-12)
    covariance = covariance + ridge * torch.eye(len(covariance)).to(covariance)
    shares = torch.linalg.solve(covariance, torch.ones(len(covariance)).to(covariance))
    return shares / shares.sum()


ENSEMBLES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "naive": naive_ensemble,
    "linear": linear_ensemble,
    "minlogit": minlogit_ensemble,
}
