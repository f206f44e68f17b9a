"""What one trial trains: frozen, validated, and identified by its content. No torch here.

A `TrialSpec` is complete: every default is resolved in it, so that the spec alone, stored beside a
run, trains the same networks again (`switokd.train.run`).
"""

from __future__ import annotations

import itertools
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Strict,
    field_validator,
    model_validator,
)

from switokd.data import DATASETS
from switokd.methods.settings import MethodSettings, resolve_settings
from switokd.models import MODELS
from switokd.spec.identity import AddedLater, NotIdentity, content_id
from switokd.validation import FieldError, Finite, Frozen, Text, Whole, known_name


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError("must be letters, digits, '.', '_' and '-', the first a letter or digit")
    return name


# a folder is called after it, so that it must fit a file name
Name = Annotated[Text, Field(max_length=100), AfterValidator(_plain_name)]
Temperature = Annotated[Finite, Field(gt=0)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]


class Optimization(Frozen):
    """How one network is initialised and stepped; in a recipe, the default of every network."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Annotated[Finite, Field(gt=0)] = 0.1
    momentum: Annotated[Finite, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[Finite, Field(ge=0)] = 5e-4
    init: Literal["default", "fan_in_normal"] = "default"


class NetworkSpec(Optimization):
    """One network of a cohort. Adam has no momentum setting: there `momentum` is 0."""

    model: Text

    @field_validator("model")
    @classmethod
    def _known_model(cls, name: str) -> str:
        known_name("network", name, MODELS)
        return name


class Recipe(Frozen):
    """How a cohort is trained: everything its networks share."""

    epochs: Annotated[Whole, Field(ge=1, le=1_000_000)]
    batch_size: Annotated[Whole, Field(ge=2, le=1_000_000)] = 128
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[Whole, ...] = ()
    warmup_epochs: Annotated[Whole, Field(ge=0)] = 0
    holdout: Annotated[Finite, Field(ge=0, lt=1)] = 0.0
    precision: Literal["fp32", "bf16", "fp64"] = "fp32"
    engine: Literal["eager", "compiled"] = "eager"
    deterministic: Annotated[bool, Strict()] = False
    image_size: Annotated[Whole, Field(ge=4, le=4096)] | None = None
    augmentation: Literal["default", "none", "crop", "crop_flip"] = "default"
    patience: Annotated[Whole, Field(ge=1)] | None = None

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
        if self.milestones and self.schedule != "step":
            raise _at("milestones", f"belong to schedule 'step' (found schedule {self.schedule!r})")
        if self.warmup_epochs >= self.epochs:
            raise _at(
                "warmup_epochs",
                f"must be below epochs = {self.epochs} (found {self.warmup_epochs})",
            )
        return self


class MethodSpec(Frozen):
    """A method by name, with all of its settings resolved."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("name"), str):
            given = data.get("settings") or {}
            settings = resolve_settings(data["name"], given)
            return {**data, "settings": settings.model_dump()}
        return data

    @cached_property
    def resolved(self) -> MethodSettings:
        return resolve_settings(self.name, self.settings)

    @property
    def variant(self) -> str:
        """The method with the settings that differ from its defaults: `switokd(threshold=0.6)`."""
        settings = ", ".join(f"{key}={value}" for key, value in self.resolved.non_default.items())
        return f"{self.name}({settings})" if settings else self.name


def _auto_or_whole(value: Any) -> Any:
    # a union would answer a wrong value once per member; this answers it once
    if value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError("must be 'auto' or a whole number from 1")


def _gpus(value: Any) -> Any:
    if value == "auto" or (type(value) in (int, float) and 0 <= value <= 1):
        return value
    raise ValueError(
        "must be 'auto' or a number from 0 to 1: a trial uses one device, because the switch "
        "decides on the whole batch"
    )


def _full_address(storage: str) -> str:
    # workers have directories of their own
    if "://" not in storage and not Path(storage).is_absolute():
        raise ValueError("must be an address (s3://bucket/path) or an absolute path")
    return storage


class Resources(Frozen):
    """What a trial may take of the machine, and where it keeps its checkpoints.

    None of it changes what is computed. `trials_per_gpu: auto` measures a trial first; `storage` is
    the address of a folder (`s3://bucket/path`) for the checkpoints, default beside the results.
    """

    cpus: Annotated[int | Literal["auto"], BeforeValidator(_auto_or_whole)] = "auto"
    gpus: Annotated[float | Literal["auto"], BeforeValidator(_gpus)] = "auto"
    trials_per_gpu: Annotated[int | Literal["auto"], BeforeValidator(_auto_or_whole)] = 1
    max_concurrent: Annotated[Whole, Field(ge=1)] | None = None
    checkpoint_seconds: Annotated[Finite, Field(ge=0)] = 30.0
    storage: Annotated[Text, AfterValidator(_full_address)] | None = None

    @model_validator(mode="after")
    def _one_way_to_share_a_gpu(self) -> Resources:
        if self.trials_per_gpu != 1 and self.gpus != "auto":
            raise _at(
                "trials_per_gpu",
                f"says how gpus are shared; gpus must then be 'auto' (found {self.gpus})",
            )
        return self


class TrialSpec(Frozen):
    """One trial: a cohort, a method, a temperature, a seed and a recipe, all resolved."""

    experiment: Annotated[Name, NotIdentity()]
    dataset: Text
    dataset_path: Annotated[Text | None, AddedLater(None)] = None
    stand_in: Annotated[bool, Strict(), AddedLater(False)] = False
    networks: dict[str, NetworkSpec]
    method: MethodSpec
    temperature: Temperature = 1.0
    seed: Seed = 0
    recipe: Recipe
    resources: Annotated[Resources, NotIdentity()] = Resources()

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, name: str) -> str:
        known_name("dataset", name, DATASETS)
        return name

    @model_validator(mode="after")
    def _holdout_where_the_method_learns_from_it(self) -> TrialSpec:
        if self.method.resolved.needs_holdout and not self.recipe.holdout:
            raise FieldError(
                (
                    ("recipe", "holdout"),
                    f"must be above 0 for {self.method.variant}, which learns from images held "
                    "out of the training set (found 0)",
                )
            )
        return self

    @cached_property
    def trial_id(self) -> str:
        """The content id: equal for equal results, whatever the experiment or machine."""
        return content_id(self)

    @property
    def teachers(self) -> tuple[str, ...]:
        return tuple(name for name in self.networks if name.startswith("T"))

    @property
    def students(self) -> tuple[str, ...]:
        return tuple(name for name in self.networks if name.startswith("S"))

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """Every (teacher, student) combination, teachers first."""
        return tuple(itertools.product(self.teachers, self.students))

    @property
    def topology(self) -> str:
        if not self.teachers:
            return "single"
        return f"{len(self.teachers)}T{len(self.students)}S"

    @property
    def pair(self) -> str:
        """`wrn_16_10+wrn_16_2>mobilenet`; for a network alone, its name."""
        sides = (self.teachers, self.students) if self.teachers else (self.students,)
        return ">".join("+".join(self.networks[n].model for n in side) for side in sides)

    @property
    def label(self) -> str:
        """A line for people: pair, variant, temperature (where it matters) and seed."""
        parts = [self.pair, self.method.variant]
        if self.method.resolved.uses_temperature:
            parts.append(f"tau={self.temperature:g}")
        return " ".join([*parts, f"seed={self.seed}"])

    def flattened(self) -> dict[str, str]:
        """Every resolved value under a dotted key, as MLflow's params take them."""
        flat = {
            "dataset": self.dataset,
            "method": self.method.name,
            "temperature": f"{self.temperature:g}",
            "seed": str(self.seed),
        }
        if self.dataset_path is not None:
            flat["dataset_path"] = self.dataset_path
        if self.stand_in:
            flat["stand_in"] = "true"
        groups = {"method": self.method.settings, "recipe": self.recipe.model_dump()}
        groups |= {name: network.model_dump() for name, network in self.networks.items()}
        for group, values in groups.items():
            flat |= {f"{group}.{key}": _text(value) for key, value in values.items()}
        return flat


def _at(key: str, message: str) -> FieldError:
    return FieldError(((key,), message))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
