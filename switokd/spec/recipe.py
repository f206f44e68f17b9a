"""How networks are trained: the settings of one network's optimizer, and of a whole cohort.

Optimizers and schedules are closed choices: an entry here, and its builder in
`switokd.training.optimizers`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, Strict, model_validator

from switokd.models import INITIALIZATIONS
from switokd.registry import Registry
from switokd.spec.identity import AddedLater
from switokd.spec.network import IdentifiedNetwork
from switokd.validation import FieldError, Finite, Frozen, Text, Whole

OPTIMIZERS = Registry(
    "optimizer",
    {
        "sgd": "switokd.training.optimizers:sgd",
        "adam": "switokd.training.optimizers:adam",
    },
)
# settings that an optimizer does not have, with the value that a resolved network holds for them
ABSENT_SETTINGS = {"adam": {"momentum": 0.0}}
SCHEDULES = Registry(
    "schedule",
    {
        "step": "switokd.training.optimizers:step_schedule",
        "cosine": "switokd.training.optimizers:cosine_schedule",
    },
)
MILESTONE_SCHEDULE = "step"
ENGINES = Registry(
    "engine",
    {
        "eager": "switokd.training.engines:EagerEngine",
        "compiled": "switokd.training.engines:CompiledEngine",
        "graphed": "switokd.training.graphed:GraphedEngine",
    },
)


class Optimization(Frozen):
    """How one network is initialised and stepped; in a recipe, the default of every network."""

    optimizer: Annotated[Text, AfterValidator(OPTIMIZERS.checked)] = "sgd"
    learning_rate: Annotated[Finite, Field(gt=0)] = 0.1
    momentum: Annotated[Finite, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[Finite, Field(ge=0)] = 5e-4
    init: Annotated[Text, AfterValidator(INITIALIZATIONS.checked)] = "default"


class NetworkSpec(Optimization, IdentifiedNetwork):
    """One network of a cohort. Adam has no momentum setting: there `momentum` is 0."""


class Recipe(Frozen):
    """How a cohort is trained: everything its networks share.

    `train_images`: so many images of the training set, as many of every class, the same ones for
    every seed; None for all. A hold-out is set aside first.
    """

    epochs: Annotated[Whole, Field(ge=1, le=1_000_000)]
    batch_size: Annotated[Whole, Field(ge=2, le=1_000_000)] = 128
    schedule: Annotated[Text, AfterValidator(SCHEDULES.checked)] = "step"
    milestones: tuple[Whole, ...] = ()
    warmup_epochs: Annotated[Whole, Field(ge=0)] = 0
    holdout: Annotated[Finite, Field(ge=0, lt=1)] = 0.0
    precision: Literal["fp32", "bf16", "fp64"] = "fp32"
    engine: Annotated[Text, AfterValidator(ENGINES.checked)] = "eager"
    deterministic: Annotated[bool, Strict()] = False
    image_size: Annotated[Whole, Field(ge=4, le=4096)] | None = None
    augmentation: Literal["default", "none", "crop", "crop_flip"] = "default"
    patience: Annotated[Whole, Field(ge=1)] | None = None
    train_images: Annotated[Annotated[Whole, Field(ge=2)] | None, AddedLater(None)] = None

    @model_validator(mode="after")
    def _patience_only_with_a_holdout(self) -> Recipe:
        if self.patience is not None and not self.holdout:
            raise _at(
                "patience",
                f"needs a holdout above 0: epochs counted on the test set would be tuned on it "
                f"(found {self.patience} with holdout 0)",
            )
        return self

    @model_validator(mode="after")
    def _milestones_within_the_epochs(self) -> Recipe:
        for milestone in self.milestones:
            if not 1 <= milestone <= self.epochs:
                raise _at(
                    "milestones", f"must be from 1 to epochs = {self.epochs} (found {milestone})"
                )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise _at("milestones", f"must increase (found {list(self.milestones)})")
        if self.milestones and self.schedule != MILESTONE_SCHEDULE:
            raise _at(
                "milestones",
                f"belong to schedule {MILESTONE_SCHEDULE!r} (found schedule {self.schedule!r})",
            )
        if self.warmup_epochs >= self.epochs:
            raise _at(
                "warmup_epochs",
                f"must be below epochs = {self.epochs} (found {self.warmup_epochs})",
            )
        return self


def _at(key: str, message: str) -> FieldError:
    return FieldError(((key,), message))
