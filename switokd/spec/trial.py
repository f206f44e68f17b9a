"""What one trial trains: frozen, validated, and identified by its content. No torch here.

A `TrialSpec` is complete: every default is resolved in it, so that the spec alone, stored beside a
run, trains the same networks again (`switokd.train.run`).
"""

from __future__ import annotations

import itertools
from functools import cached_property
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import Field, SerializeAsAny, model_validator

from switokd.methods.settings import MethodSettings, resolve_settings
from switokd.spec.dataset import DatasetOfTrial
from switokd.spec.identity import AddedLater, NotIdentity, content_id
from switokd.spec.recipe import NetworkSpec, Recipe
from switokd.spec.resources import Resources
from switokd.user_modules import add_to_path, folder_of, is_address, source_of
from switokd.validation import FieldError, Finite, Frozen, PlainName, Text, Whole

Temperature = Annotated[Finite, Field(gt=0)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]


class MethodSpec(Frozen):
    """A method by name, with all of its settings resolved.

    source, module_folder: of a user's method, what identifies its code and where it was found.
    teacher: the weights of the trained teacher, as the file names them; its network has them.
    """

    name: str
    settings: SerializeAsAny[MethodSettings]
    source: Annotated[Text | None, AddedLater(None)] = None
    module_folder: Annotated[Text | None, NotIdentity()] = None
    teacher: Annotated[Text | None, NotIdentity()] = None

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("name"), str):
            if data.get("module_folder") is not None:
                add_to_path(data["module_folder"])
            if data.get("source") is None:
                data = data | identified_method(data["name"])
            given = data.get("settings") or {}
            if not isinstance(given, MethodSettings):
                given = resolve_settings(data["name"], given, data.get("source"))
            return {**data, "settings": given}
        return data

    @property
    def taught_by(self) -> dict[str, str]:
        """The teacher's weights as a file's entry of the method has them, where it has."""
        return {} if self.teacher is None else {"teacher": self.teacher}

    @property
    def variant(self) -> str:
        """The method with the settings that differ from its defaults: `switokd(threshold=0.6)`."""
        settings = [f"{key}={value}" for key, value in self.settings.non_default.items()]
        for key, value in self.taught_by.items():
            # a run's id says which, a file's folder is a matter of the machine
            settings.append(f"{key}={value if value.startswith('run:') else PurePath(value).name}")
        return f"{self.name}({', '.join(settings)})" if settings else self.name


def identified_method(name: str) -> dict[str, str]:
    """What a trial has to know of a method beside its name and settings. Raises SpecError."""
    if not is_address(name):
        return {}
    module = name.partition(":")[0]
    return {"source": source_of(module), "module_folder": folder_of(module)}


class TrialSpec(DatasetOfTrial):
    """One trial: data, a cohort, a method, a temperature, a seed and a recipe, all resolved.

    snapshots: the epochs after which its weights are kept, for trials that they teach.
    batch_norm_parts: into how many parts, each with batch norms of its own, every batch falls; one
    for each of the processes that train it together (`Resources`), unless they share those norms.
    """

    experiment: Annotated[PlainName, NotIdentity()]
    networks: dict[str, NetworkSpec]
    method: MethodSpec
    temperature: Temperature = 1.0
    seed: Seed = 0
    recipe: Recipe
    resources: Annotated[Resources, NotIdentity()] = Resources()
    snapshots: Annotated[tuple[Whole, ...], NotIdentity()] = ()
    batch_norm_parts: Annotated[Whole, Field(ge=1), AddedLater(1)] = 1

    @model_validator(mode="after")
    def _holdout_where_the_method_learns_from_it(self) -> TrialSpec:
        if self.method.settings.needs_holdout and not self.recipe.holdout:
            raise FieldError(
                (
                    ("recipe", "holdout"),
                    f"must be above 0 for {self.method.variant}, which learns from images held "
                    "out of the training set (found 0)",
                )
            )
        return self

    @model_validator(mode="after")
    def _only_teaches_where_the_method_has_that(self) -> TrialSpec:
        for name in self.frozen:
            told = None
            if name in self.students:
                told = "a student learns"
            elif not self.method.settings.takes_frozen:
                told = f"{self.method.name} takes no network that only teaches"
            if told is not None:
                raise FieldError((("networks", name, "frozen"), f"must be false: {told}"))
        return self

    @model_validator(mode="after")
    def _a_trained_teacher_only_teaches(self) -> TrialSpec:
        for name in self.teachers if self.method.settings.trained_teacher else ():
            if not self.networks[name].frozen:
                told = f"must be true: the teacher of {self.method.name} has been trained before"
                raise FieldError((("networks", name, "frozen"), told))
        return self

    @model_validator(mode="after")
    def _can_be_divided(self) -> TrialSpec:
        ranks, parts = self.resources.ranks, self.resources.batch_norm_parts
        key = "workers" if self.resources.workers > 1 else "gpus"
        told = None
        if parts != self.batch_norm_parts:
            told = f"must give {self.batch_norm_parts} parts with batch norms of their own"
        elif ranks > 1 and not self.method.settings.divisible:
            told = f"must be 1 for {self.method.name}, whose losses need the whole batch"
        elif ranks > 1 and self.recipe.engine != "eager":
            told = f"must be 1 for engine {self.recipe.engine}"
        elif self.recipe.batch_size < 2 * ranks:
            told = f"must leave each 2 images or more of a batch of {self.recipe.batch_size}"
        if told is not None:
            raise FieldError((("resources", key), f"{told} (found {max(ranks, parts)})"))
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
    def frozen(self) -> frozenset[str]:
        """The networks that only teach, whatever the method."""
        return frozenset(name for name, network in self.networks.items() if network.frozen)

    @property
    def trained_by(self) -> dict[str, str]:
        """The ids of the trials that train its teachers first, by the teacher."""
        found = {name: network.trained_by for name, network in self.networks.items()}
        return {name: trial_id for name, trial_id in found.items() if trial_id is not None}

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
        """`wrn_16_10+wrn_16_2>mobilenet`; for a network alone, its name. Short names count."""
        sides = (self.teachers, self.students) if self.teachers else (self.students,)
        return ">".join("+".join(self.networks[n].label for n in side) for side in sides)

    @property
    def label(self) -> str:
        """A line for people: pair, variant, temperature (where it matters) and seed."""
        parts = [self.pair, self.method.variant]
        if self.method.settings.uses_temperature:
            parts.append(f"tau={self.temperature:g}")
        return " ".join([*parts, f"seed={self.seed}"])
