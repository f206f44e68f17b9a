"""Population-based training, one member: another's networks, changed settings, its own progress.

Jaderberg et al., "Population Based Training of Neural Networks" (2017), algorithm 1: a member that
is behind takes over the weights of a better one and goes on under settings near the better one's.
Its epochs, data and schedule stay its own, so that each member trains every epoch once.
"""

from __future__ import annotations

from typing import Any

from switokd.session.extension import carried_on
from switokd.spec.trial import TrialSpec
from switokd.training.build import build_trainer
from switokd.training.trainer import Trainer


def take_over(own: Trainer, donor: dict[str, Any], changed: TrialSpec) -> Trainer:
    """A trainer of `changed` in the place of `own`, which it closes, with the donor's networks.

    `donor` is a trainer's state: its networks, the momenta of their optimizers and what its method
    has learnt are taken over. Learning rates are where the changed schedule has them by now.
    """
    state = own.state_dict()
    trainer = build_trainer(changed, own.device, own.teachers.weights)
    own.data.close()
    taken = {key: donor[key] for key in ("networks", "optimizers", "method", "attached")}
    trainer.load_state_dict(carried_on(trainer, state | taken, own.epoch))
    return trainer
