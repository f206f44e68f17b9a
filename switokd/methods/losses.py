"""The losses of a cohort on one batch, each softmax taken once.

Source: method.md section 3. `Predictions` holds what every method needs of the logits; a method
combines its terms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from switokd.switching import (
    SwitchState,
    Threshold,
    full_precision,
    label_distance,
    probability_gap,
    switch_from_distances,
)

# means over a part of a batch, to those over the whole of it
Average = Callable[[Tensor], Tensor]


def kl_divergence(target_log_probabilities: Tensor, log_probabilities: Tensor) -> Tensor:
    """KL(target || prediction), summed over classes and averaged over the batch.

    Both arguments are log-probabilities (B, K); the target is detached.
    """
    return F.kl_div(
        log_probabilities, target_log_probabilities.detach(), reduction="batchmean", log_target=True
    )


def maps_of_one_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two networks' maps (B, C, H, W); the larger one is average-pooled to the other's H and W.

    Half-precision maps are taken to float32.
    """
    size = min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3])
    pooled = (F.adaptive_avg_pool2d(full_precision(maps), size) for maps in (first, second))
    return next(pooled), next(pooled)


class Predictions:
    """What a cohort says about one batch: log-probabilities at tau, losses, links.

    `logits` are (B, K) by network name, `targets` the labels (B,), `maps` what the method asked for
    of the networks' stages, (B, C, H, W) by network and stage, `indices` which training images
    these are, (B,), where it is known. Half-precision logits are taken to float32 first. `average`
    takes means over these images to those over a batch of which they are a part, all of the
    `links` at once; None where they are the batch.
    """

    def __init__(
        self,
        logits: Mapping[str, Tensor],
        targets: Tensor,
        temperature: float = 1.0,
        maps: Mapping[str, Mapping[str, Tensor]] | None = None,
        indices: Tensor | None = None,
        links: Sequence[tuple[str, str]] = (),
        average: Average | None = None,
    ) -> None:
        self.targets = targets
        self.indices = indices
        self.maps = maps or {}
        self.temperature = temperature
        self.logits = {name: full_precision(z) for name, z in logits.items()}
        self.log_probabilities = {
            name: F.log_softmax(z if temperature == 1 else z / temperature, dim=1)
            for name, z in self.logits.items()
        }
        self.cross_entropies = {name: self._cross_entropy(name) for name in self.logits}
        self._probabilities: dict[str, Tensor] = {}
        self._distances: dict[str, Tensor] = {}
        self._gaps: dict[tuple[str, str], Tensor] = {}
        self._links, self._average = links, average

    def _cross_entropy(self, name: str) -> Tensor:
        """CE of network `name` at temperature 1, whatever the cohort's temperature."""
        if self.temperature == 1:
            return F.nll_loss(self.log_probabilities[name], self.targets)
        return F.cross_entropy(self.logits[name], self.targets)

    def imitation(self, target: str, network: str) -> Tensor:
        """tau^2 KL(p_target || p_network): the gradient reaches `network` alone.

        tau^2 keeps the gradient's scale when the temperature softens the distributions
        (Hinton et al., 2015).
        """
        return self.temperature**2 * kl_divergence(
            self.log_probabilities[target], self.log_probabilities[network]
        )

    @torch.no_grad()
    def link(
        self,
        teacher: str,
        student: str,
        threshold: Threshold = "adaptive",
        require_better_teacher: bool = True,
    ) -> SwitchState:
        """The switch of one link (method.md section 2)."""
        if (teacher, student) not in self._gaps:
            if self._average is None:
                self._measure(teacher, student)
            else:
                self._measure_all(self._average)
        return switch_from_distances(
            self._gaps[teacher, student],
            self._distances[student],
            self._distances[teacher],
            threshold,
            require_better_teacher,
        )

    def _measure(self, teacher: str, student: str) -> None:
        for name in (teacher, student):
            if name not in self._probabilities:
                probabilities = self.log_probabilities[name].exp()
                self._probabilities[name] = probabilities
                self._distances[name] = label_distance(probabilities, self.targets)
        found = probability_gap(self._probabilities[student], self._probabilities[teacher])
        self._gaps[teacher, student] = found

    def _measure_all(self, average: Average) -> None:
        """Of every link, in one exchange."""
        for teacher, student in self._links:
            self._measure(teacher, student)
        means = average(torch.stack([*self._gaps.values(), *self._distances.values()]))
        gaps, distances = means.split([len(self._gaps), len(self._distances)])
        self._gaps = dict(zip(self._gaps, gaps, strict=True))
        self._distances = dict(zip(self._distances, distances, strict=True))
