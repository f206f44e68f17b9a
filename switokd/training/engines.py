"""How the step of a cohort is carried out: what is queued on the device, and in which order.

The order is what makes a step fast: networks that never pause are updated first, while the flags of
those that may pause travel to the host, so that nothing waits for a decision before the first
backward pass. `switokd.training.graphed` has the engine of CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from switokd.methods.base import CohortStep, Method
from switokd.training.flags import FlagReader
from switokd.training.maps import MapRecorder
from switokd.training.ranks import ALONE, Ranks
from switokd.training.teachers import FrozenOutputs
from switokd.training.timeline import Timeline

Views = tuple[Tensor, ...]


@dataclass(frozen=True)
class Cohort:
    """What a step touches: networks and, by network, optimizers; a frozen network has none.

    `precision`: fp32, bf16 (autocast over float32 weights) or fp64 (the networks are float64).
    `attached`: the method's own modules, by the network that they are trained with. `ranks`: the
    processes that take the step together; networks that learn are wrapped by them.
    """

    networks: Mapping[str, nn.Module]
    method: Method
    optimizers: Mapping[str, Optimizer]
    device: torch.device
    precision: str = "fp32"
    maps: MapRecorder | None = None
    outputs: FrozenOutputs | None = None
    attached: Mapping[str, nn.Module] = field(default_factory=dict)
    ranks: Ranks = ALONE

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, images, and the method's quantities."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def autocast(self) -> torch.autocast:
        """The context in which networks are called."""
        enabled = self.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=True)

    def look(self, views: Views, targets: Tensor, indices: Tensor | None = None) -> CohortStep:
        """All forward passes, with the weights from before the step, and the method's answer.

        What networks that only teach say of images with these `indices` may be known.
        """
        views = tuple(
            view.to(self.dtype).contiguous(memory_format=torch.channels_last) for view in views
        )
        logits = {}
        with self.autocast():
            for position, (name, network) in enumerate(self.networks.items()):
                if self.outputs is not None and indices is not None and name in self.outputs:
                    logits[name] = self.outputs.logits(name, indices)
                    continue
                with torch.set_grad_enabled(name in self.optimizers):
                    logits[name] = network(views[position % len(views)])
        maps = self.maps.take() if self.maps else None
        if maps is not None and self.outputs is not None and indices is not None:
            maps |= self.outputs.maps(indices)
        return self.method(logits, targets, maps, indices)

    def update(self, name: str, step: CohortStep) -> None:
        """The backward pass and the optimizer step of one network."""
        self.optimizers[name].zero_grad(set_to_none=True)
        self.ranks.weighted(step.losses[name]).backward()
        if name in self.attached:
            self.ranks.average_gradients(self.attached[name].parameters())
        self.optimizers[name].step()


class EagerEngine:
    """Each operation of a step is queued by itself."""

    def __init__(self, cohort: Cohort, timeline: Timeline) -> None:
        self.cohort = cohort
        self.timeline = timeline
        self.flags = FlagReader(cohort.device)

    @staticmethod
    def prepare(network: nn.Module) -> None:
        """Make a new network ready for the engine, in place."""

    def forget(self) -> None:
        """Hold on to no tensor from before: weights or optimizers were loaded."""

    def update(self, name: str, step: CohortStep) -> None:
        """Move one network by its loss."""
        self.cohort.update(name, step)

    def step(self, views: Views, targets: Tensor, indices: Tensor | None = None) -> CohortStep:
        """One step on images (B, C, H, W), one view or one for each network, and labels (B,).

        `indices` (B,): which training images they are, where that is known.
        A paused network has neither a backward pass nor an optimizer step: zero gradients would
        still let momentum and weight decay move it.
        """
        step = self.cohort.look(views, targets, indices)
        self.flags.send(step.pause_flags)
        self.timeline.record(step, images=len(targets))
        for name in step.losses:
            if name not in step.pause_flags:
                self.update(name, step)
        paused = self.flags.receive()
        for name in step.pause_flags:
            if name not in paused:
                self.update(name, step)
        return step


class CompiledEngine(EagerEngine):
    """As the eager one, over networks that torch.compile has compiled."""

    @staticmethod
    def prepare(network: nn.Module) -> None:
        """Compile in place, so that state-dict keys stay; there are two sizes of batch."""
        network.compile(dynamic=False)
