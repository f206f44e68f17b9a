"""What a user may set of each method, checked without torch.

The class of a method's settings also says what the sweep must know before it builds anything:
whether the temperature matters to the method, whether it trains networks together, and whether some
of them may be frozen: only teach.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, Strict, ValidationError

from switokd.validation import Finite, Frozen, field_error, known_name


class MethodSettings(Frozen):
    """No settings at all; the base of those that have some."""

    uses_temperature: ClassVar[bool] = True
    trains_together: ClassVar[bool] = True
    has_roles: ClassVar[bool] = False
    takes_frozen: ClassVar[bool] = False

    @property
    def needs_holdout(self) -> bool:
        """Whether the method learns from data held out of the training set."""
        return False

    @property
    def non_default(self) -> dict[str, Any]:
        """The settings that differ from their defaults, in the order of the fields."""
        return self.model_dump(exclude_defaults=True)


class VanillaSettings(MethodSettings):
    uses_temperature: ClassVar[bool] = False
    trains_together: ClassVar[bool] = False


class DMLSettings(MethodSettings):
    """Deep mutual learning has no settings but the temperature (Zhang et al., CVPR 2018)."""

    takes_frozen: ClassVar[bool] = True


class KDCLSettings(MethodSettings):
    """Knowledge distillation via collaborative learning (Guo et al., CVPR 2020)."""

    takes_frozen: ClassVar[bool] = True

    variant: Literal["minlogit", "naive", "linear", "general"] = "minlogit"
    weight: Annotated[Finite, Field(ge=0)] = 1.0
    views: Literal["shared", "own"] = "shared"

    @property
    def needs_holdout(self) -> bool:
        return self.variant == "general"


def _threshold(value: Any) -> Any:
    # a union would answer a wrong threshold once per member; this answers it once
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 2
    if value == "adaptive" or number:
        return value if value == "adaptive" else float(value)
    raise ValueError("must be 'adaptive' or a number from 0 to 2 (the gap's range)")


class SwitOKDSettings(MethodSettings):
    """Switchable online knowledge distillation (Qian et al., ECCV 2022)."""

    has_roles: ClassVar[bool] = True

    threshold: Annotated[Literal["adaptive"] | float, BeforeValidator(_threshold)] = "adaptive"
    require_better_teacher: Annotated[bool, Strict()] = True
    alpha: Annotated[Finite, Field(ge=0)] = 1.0
    beta: Annotated[Finite, Field(ge=0)] = 1.0


SETTINGS: dict[str, type[MethodSettings]] = {
    "vanilla": VanillaSettings,
    "dml": DMLSettings,
    "kdcl": KDCLSettings,
    "switokd": SwitOKDSettings,
}


def resolve_settings(name: str, settings: dict[str, Any]) -> MethodSettings:
    """The checked settings of method `name`; raises SpecError for what a user can mend."""
    known_name("method", name, SETTINGS)
    try:
        return SETTINGS[name].model_validate(settings)
    except ValidationError as error:
        raise field_error(error, under=(name,)) from None
