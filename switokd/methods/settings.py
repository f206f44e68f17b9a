"""What a user may set of each method, checked without torch.

The class of a method's settings also says what the sweep must know before it builds anything:
whether the temperature matters to the method, whether it trains networks together, and whether some
of them may be frozen: only teach.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, Strict, ValidationError

from switokd.user_modules import is_address, load
from switokd.validation import Finite, Frozen, SpecError, Whole, field_error, known_name


class MethodSettings(Frozen):
    """No settings at all; the base of those that have some."""

    uses_temperature: ClassVar[bool] = True
    trains_together: ClassVar[bool] = True
    has_roles: ClassVar[bool] = False
    takes_frozen: ClassVar[bool] = False
    # whether its teacher has been trained before, and only teaches
    trained_teacher: ClassVar[bool] = False
    # whether its links take modes; else it is told what a switch would have done
    switches: ClassVar[bool] = False
    # whether several processes may each take a part of a batch: its losses are means over images
    # that know nothing of each other, and it asks `Predictions.link` what it decides by
    divisible: ClassVar[bool] = False

    @property
    def needs_holdout(self) -> bool:
        """Whether the method learns from data held out of the training set."""
        return False

    def teacher_epochs(self, epochs: int) -> tuple[int, ...]:
        """After which epochs of its teacher's training, of `epochs` like its own, weights teach.

        Each teaches until the trial itself has come as far; none for the last weights alone.
        """
        return ()

    @property
    def non_default(self) -> dict[str, Any]:
        """The settings that differ from their defaults, in the order of the fields."""
        return self.model_dump(exclude_defaults=True)


class VanillaSettings(MethodSettings):
    divisible: ClassVar[bool] = True
    uses_temperature: ClassVar[bool] = False
    trains_together: ClassVar[bool] = False


class DMLSettings(MethodSettings):
    """Deep mutual learning has no settings but the temperature (Zhang et al., CVPR 2018)."""

    divisible: ClassVar[bool] = True
    takes_frozen: ClassVar[bool] = True


class KDCLSettings(MethodSettings):
    """Knowledge distillation via collaborative learning (Guo et al., CVPR 2020)."""

    divisible: ClassVar[bool] = True
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

    divisible: ClassVar[bool] = True
    has_roles: ClassVar[bool] = True
    switches: ClassVar[bool] = True

    threshold: Annotated[Literal["adaptive"] | float, BeforeValidator(_threshold)] = "adaptive"
    require_better_teacher: Annotated[bool, Strict()] = True
    alpha: Annotated[Finite, Field(ge=0)] = 1.0
    beta: Annotated[Finite, Field(ge=0)] = 1.0


class OfflineSettings(MethodSettings):
    """Of a method whose teacher has been trained before."""

    # the switch that it would have had is measured at temperature 1
    uses_temperature: ClassVar[bool] = False
    has_roles: ClassVar[bool] = True
    takes_frozen: ClassVar[bool] = True
    trained_teacher: ClassVar[bool] = True


class KDSettings(OfflineSettings):
    """Knowledge distillation (Hinton et al., 2015), by the convention of the CIFAR experiments."""

    divisible: ClassVar[bool] = True
    temperature: Annotated[Finite, Field(gt=0)] = 4.0
    alpha: Annotated[Finite, Field(ge=0)] = 0.9
    gamma: Annotated[Finite, Field(ge=0)] = 0.1


class FitNetSettings(OfflineSettings):
    """FitNets (Romero et al., ICLR 2015)."""

    divisible: ClassVar[bool] = True
    weight: Annotated[Finite, Field(ge=0)] = 100.0


class ATSettings(OfflineSettings):
    """Attention transfer (Zagoruyko & Komodakis, ICLR 2017)."""

    divisible: ClassVar[bool] = True
    weight: Annotated[Finite, Field(ge=0)] = 1000.0


class CRDSettings(OfflineSettings):
    """Contrastive representation distillation (Tian et al., ICLR 2020)."""

    weight: Annotated[Finite, Field(ge=0)] = 0.8
    negatives: Annotated[Whole, Field(ge=1)] = 16384
    temperature: Annotated[Finite, Field(gt=0)] = 0.07
    momentum: Annotated[Finite, Field(ge=0, lt=1)] = 0.5
    dimensions: Annotated[Whole, Field(ge=1)] = 128


class RCOSettings(KDSettings):
    """Route-constrained optimization (Jin et al., ICCV 2019); fewer stages in fewer epochs."""

    stages: Annotated[Whole, Field(ge=1)] = 4

    def teacher_epochs(self, epochs: int) -> tuple[int, ...]:
        """The ends of stages of equal length."""
        ends = {number * epochs // self.stages for number in range(1, self.stages + 1)}
        return tuple(sorted(ends - {0}))


SETTINGS: dict[str, type[MethodSettings]] = {
    "vanilla": VanillaSettings,
    "dml": DMLSettings,
    "kdcl": KDCLSettings,
    "switokd": SwitOKDSettings,
    "kd": KDSettings,
    "fitnet": FitNetSettings,
    "at": ATSettings,
    "crd": CRDSettings,
    "rco": RCOSettings,
}


def checked_method(name: str) -> str:
    """The name, if it is one of ours or has the form of a user's `package.module:Class`."""
    if not is_address(name):
        known_name("method", name, SETTINGS)
    return name


def settings_class(name: str, source: str | None = None) -> type[MethodSettings]:
    """The class of a method's settings; a user's method is imported for it.

    `source`: what its module has to be (`user_modules.load`). Raises SpecError.
    """
    if not is_address(checked_method(name)):
        return SETTINGS[name]
    found = getattr(load(name, source), "settings_class", None)
    if not (isinstance(found, type) and issubclass(found, MethodSettings)):
        raise SpecError(f"{name}: must be a subclass of switokd.methods.base.Method")
    if "source" in found.model_fields:
        raise SpecError(f"{name}: 'source' cannot be a setting: it is that of the method's code")
    return found


def resolve_settings(
    name: str, settings: dict[str, Any], source: str | None = None
) -> MethodSettings:
    """The checked settings of method `name`; raises SpecError for what a user can mend."""
    try:
        return settings_class(name, source).model_validate(settings)
    except ValidationError as error:
        raise field_error(error, under=(name,)) from None
