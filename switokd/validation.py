"""Checking what users write: strict frozen models, and errors that say how to mend them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    model_validator,
)


class SpecError(ValueError):
    """A mistake of the user's: the message says what was found and what is allowed."""


class DataError(SpecError):
    """Missing, damaged or contradictory data: something that its owner can mend."""


Location = tuple[str | int, ...]
Problem = tuple[Location, str]


class FieldError(SpecError):
    """Mistakes at keys, each with the key's place as seen from where the error was raised."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        lines = (
            f"{'.'.join(map(str, place))}: {message}" if place else message
            for place, message in self.problems
        )
        return "\n".join(dict.fromkeys(lines))


Whole = Annotated[int, Strict()]
Finite = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Text = Annotated[str, Strict()]


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError("must be letters, digits, '.', '_' and '-', the first a letter or digit")
    return name


# files and folders are called after it, so that it must fit a file name
PlainName = Annotated[Text, Field(max_length=100), AfterValidator(_plain_name)]

# pydantic speaks of Python's types; an experiment file has these
IN_WORDS = {
    "missing": "is required",
    "tuple_type": "must be a list",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "string_type": "must be a text (in quotes where it reads as a number, date, true or null)",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least one element",
    "string_too_long": "must have at most {max_length} characters",
}
LONGEST_SHOWN = 80


def nearest(name: object, known: Iterable[str]) -> str:
    """A hint such as `; did you mean 'wrn_16_2'?`, or nothing where no known name is close."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5) if isinstance(name, str) else []
    return f"; did you mean {close[0]!r}?" if close else ""


def known_name(kind: str, name: object, known: Iterable[str]) -> None:
    """Raise SpecError, with the nearest known one, unless `name` is one of `known`."""
    names = sorted(known)
    if name not in names:
        raise SpecError(
            f"unknown {kind} {shown(name)}{nearest(name, names)} "
            f"(known: {', '.join(names) or 'none'})"
        )


class Frozen(BaseModel):
    """A frozen model that refuses unknown keys and offers the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        problems: list[Problem] = []
        for key in data if isinstance(data, dict) else ():
            try:
                known_name("key", key, cls.model_fields)
            except SpecError as error:
                problems.append(((), str(error)))
        if problems:
            raise FieldError(*problems)
        return data


def field_error(error: ValidationError, under: Location = ()) -> FieldError:
    """Pydantic's errors in a user's words, their places below `under`."""
    details = error.errors(include_url=False)
    problems: list[Problem] = []
    for detail in details:
        place = (*under, *detail["loc"])
        raised = detail.get("ctx", {}).get("error")
        if isinstance(raised, FieldError):
            problems += [((*place, *inner), message) for inner, message in raised.problems]
        elif not (detail["type"] == "too_short" and _holds_others(detail["loc"], details)):
            problems.append((place, _in_words(detail, raised)))
    return FieldError(*problems)


def _holds_others(place: Location, details: Iterable[Any]) -> bool:
    # pydantic counts only sound elements: a list of broken ones is no empty list
    return any(
        len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in details
    )


def _in_words(detail: Any, raised: object) -> str:
    kind, value = detail["type"], detail["input"]
    if isinstance(raised, SpecError):
        return str(raised)
    message = detail["msg"].removeprefix("Value error, ").replace("Input should", "must")
    if kind in IN_WORDS:
        limits = {name: _in_short(limit) for name, limit in detail.get("ctx", {}).items()}
        message = IN_WORDS[kind].format(**limits)
    return message if kind == "missing" else f"{message} (found {shown(value)})"


def _in_short(limit: object) -> object:
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit


def shown(value: object) -> str:
    """A value as the file has it, cut where it is long."""
    plain = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return plain[value]
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."
