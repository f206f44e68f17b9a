"""What every method answers: one loss per network, who may pause, and how the links stand."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from switokd.methods.losses import Average, Predictions
from switokd.methods.settings import MethodSettings
from switokd.switching import SwitchState
from switokd.validation import SpecError

Link = tuple[str, str]


@dataclass(frozen=True)
class CohortStep:
    """A method's answer to one batch; nothing in it has been brought to the host.

    losses: the total loss of each network, with gradient to that network alone.
    cross_entropies: each network's cross-entropy at temperature 1, detached.
    links: the switch state of each (teacher, student).
    pause_flags: for each network that may sit this step out, a 0-dimensional boolean.
    """

    losses: dict[str, Tensor]
    cross_entropies: dict[str, Tensor]
    links: dict[Link, SwitchState]
    pause_flags: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def paused(self) -> frozenset[str]:
        """The networks without a backward pass and an optimizer step (waits for the device)."""
        return frozenset(name for name, flag in self.pause_flags.items() if bool(flag))


@dataclass(frozen=True)
class Demand:
    """What a method asks of one network beside its logits.

    trained: the network learns; else it only teaches: evaluation mode, no gradient, no optimizer,
    and no loss in the method's answers. maps: the stages (`switokd.models.stage_of`) whose maps
    (B, C, H, W) the method gets with every batch.
    """

    trained: bool = True
    maps: tuple[str, ...] = ()


LOGITS_OF_A_LEARNER = Demand()
LOGITS_OF_A_TEACHER = Demand(trained=False)


@dataclass(frozen=True)
class Surroundings:
    """What a method may know of its trial when it makes what is its own.

    shapes: (C, H, W) of the maps that it asked for, by network and stage. train_labels: the label
    of every training image by its index, (train_size,).
    """

    shapes: Mapping[str, Mapping[str, torch.Size]]
    num_classes: int
    train_size: int
    device: torch.device
    train_labels: Tensor


class Method(ABC):
    """A method for a cohort of `teachers` networks T1.. and `students` networks S1...

    Called with `(logits, targets)`: logits (B, K) by network name, from the weights before the
    step; labels (B,). A method that asks for maps gets them third, by network and stage; last come
    the indices (B,) of the training images, from 0 to the number of them.
    """

    # what a user may set of the method; those of ours are in `switokd.methods.settings`
    settings_class: ClassVar[type[MethodSettings]] = MethodSettings

    settings: MethodSettings
    # networks that only teach because the trial says so
    frozen: frozenset[str] = frozenset()
    # the stages of each network, from the input on
    network_stages: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    # where it is asked about parts of batches: over all parts
    average_over_ranks: Average | None = None

    def __init__(
        self, teachers: int, students: int, temperature: float, settings: MethodSettings
    ) -> None:
        self.teachers = tuple(f"T{number}" for number in range(1, teachers + 1))
        self.students = tuple(f"S{number}" for number in range(1, students + 1))
        self.networks = self.teachers + self.students
        self.links: tuple[Link, ...] = tuple(itertools.product(self.teachers, self.students))
        self.temperature = temperature
        self.settings = settings

    def __call__(
        self,
        logits: Mapping[str, Tensor],
        targets: Tensor,
        maps: Mapping[str, Mapping[str, Tensor]] | None = None,
        indices: Tensor | None = None,
    ) -> CohortStep:
        ordered = {name: logits[name] for name in self.networks}
        of_batch = (ordered, targets, self.temperature, maps, indices)
        step = self.step(Predictions(*of_batch, self.links, self.average_over_ranks))
        if not self.frozen:
            return step
        losses, flags = (
            {name: value for name, value in values.items() if name not in self.frozen}
            for values in (step.losses, step.pause_flags)
        )
        return replace(step, losses=losses, pause_flags=flags)

    @abstractmethod
    def step(self, predictions: Predictions) -> CohortStep:
        """The losses, links and pause flags for one batch."""

    def demand(self, network: str) -> Demand:
        """What the method asks of a network."""
        return LOGITS_OF_A_TEACHER if network in self.frozen else LOGITS_OF_A_LEARNER

    def stages_of(self, network: str) -> tuple[str, ...]:
        """The stages of a network, at least one. Raises SpecError where it declares none."""
        found = self.network_stages.get(network, ())
        if not found:
            raise SpecError(
                f"{network} has no stages: the names of its modules that give the maps which the "
                "method needs belong under 'stages' of its entry in the experiment file"
            )
        return found

    def attach(self, surroundings: Surroundings) -> Mapping[str, nn.Module]:
        """Make the modules and the memory that are the method's own, before the first step.

        The modules, at most one a network, are trained by that network's optimizer and saved with
        its weights; of memory the method's `state_dict` has to speak.
        """
        return {}

    @property
    def views(self) -> int:
        """How many augmented views of each batch the networks take, in their order."""
        return 1

    @property
    def recordable(self) -> bool:
        """Whether CUDA graphs may record a step once and repeat it (`engine: graphed`).

        So it may where a step queues the same operations every time, on tensors that stay where
        they are: nothing is decided on the host, and what the method carries is changed in place.
        """
        return False

    def refresh(self, predictions: Predictions) -> None:
        """Learn from held-out predictions, before each epoch; only where settings ask for it."""
        raise NotImplementedError(f"{type(self).__name__} learns nothing from held-out data")

    def state_dict(self) -> dict[str, Tensor]:
        """What the method itself carries from step to step, for a checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        assert not state, "a method that has a state takes it up itself"

    def unswitched(self, predictions: Predictions, losses: dict[str, Tensor]) -> CohortStep:
        """The step of a method without a switch: links are measured, none is in expert mode."""
        links = {}
        for teacher, student in self.links:
            state = predictions.link(teacher, student)
            links[teacher, student] = state._replace(expert=torch.zeros_like(state.expert))
        return CohortStep(losses, _detached(predictions), links)


def _detached(predictions: Predictions) -> dict[str, Tensor]:
    return {name: loss.detach() for name, loss in predictions.cross_entropies.items()}
