"""Which network it is and what it starts from: of the zoo or from outside, fresh or from a file.

`NetworkChoice` is what a file may say of it, `IdentifiedNetwork` what a trial has of it: beside
that, what identifies the code and the weights that come from outside, by their content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue, Strict, model_validator

from switokd.models import checked_model
from switokd.models.outside import Origin, check_arguments, outside
from switokd.registry import Registry
from switokd.spec.identity import AddedLater, NotIdentity
from switokd.user_modules import folder_of, source_of
from switokd.validation import FieldError, Frozen, PlainName, SpecError, Text, shown

DIGEST_LENGTH = 16
# what `kind:name` stands for as weights: called with the name, it gives a file
WEIGHT_SOURCES = Registry(
    "source of weights", {"run": "switokd.tracking.run_weights:weights_of_run"}
)


class NetworkChoice(Frozen):
    """A network as a user chooses it.

    arguments: of the builder of a network from outside the zoo. name: for tables. target_layer: the
    module that Grad-CAM explains. stages: the modules whose maps a method may ask for, from the
    input on. weights: a file that the network starts from, or a run's network as
    `run:RUN[/NETWORK][/best|/last]`. new_head: they are of another number of classes, and what
    gives the logits begins anew. frozen: it only teaches.
    """

    model: Annotated[Text, AfterValidator(checked_model)]
    arguments: Annotated[dict[Text, JsonValue], AddedLater({})] = Field(default={})
    name: Annotated[PlainName | None, NotIdentity()] = None
    target_layer: Annotated[Text | None, NotIdentity()] = None
    stages: Annotated[tuple[Text, ...], AddedLater(())] = ()
    weights: Annotated[Text | None, NotIdentity()] = None
    new_head: Annotated[bool, Strict(), AddedLater(False)] = False
    frozen: Annotated[bool, Strict(), AddedLater(False)] = False

    @model_validator(mode="after")
    def _arguments_that_it_may_have(self) -> NetworkChoice:
        with at("arguments"):
            check_arguments(self.model, self.arguments)
        return self

    @model_validator(mode="after")
    def _what_only_teaches_has_been_taught(self) -> NetworkChoice:
        if self.frozen and not self.is_taught:
            raise FieldError((("weights",), f"is required for {self.model}, which is frozen"))
        if self.new_head and self.frozen:
            raise FieldError((("new_head",), "must be false: what is frozen never learns its head"))
        return self

    @model_validator(mode="after")
    def _a_new_head_belongs_to_weights(self) -> NetworkChoice:
        if self.new_head and not self.is_taught:
            raise FieldError((("new_head",), f"needs weights, and {self.model} names none"))
        return self

    @property
    def is_taught(self) -> bool:
        """Whether it has learned something before its trial begins."""
        return self.weights is not None

    @property
    def label(self) -> str:
        """What the network is called in tables."""
        return self.name or self.model


class IdentifiedNetwork(NetworkChoice):
    """A network with what tells it apart from others of its name.

    source: of the network's code (`user_modules.source_of`). weights_digest: of the content of the
    weights' file. trained_by: the trial, by its id, whose network has the weights.
    module_folder: where the module was found, for other processes.
    """

    source: Annotated[Text | None, AddedLater(None)] = None
    weights_digest: Annotated[Text | None, AddedLater(None)] = None
    trained_by: Annotated[Text | None, AddedLater(None)] = None
    module_folder: Annotated[Text | None, NotIdentity()] = None

    @model_validator(mode="after")
    def _what_is_from_outside_is_identified(self) -> IdentifiedNetwork:
        for key, value, needed in (
            ("source", self.source, outside(self.model) is not None),
            ("weights_digest", self.weights_digest, self.weights is not None),
        ):
            if (value is not None) != needed:
                told = "is required: load_experiment finds it" if needed else "must be null"
                raise FieldError(((key,), f"{told} (found {shown(value)})"))
        return self

    @property
    def is_taught(self) -> bool:
        return self.weights is not None or self.trained_by is not None

    @property
    def origin(self) -> Origin:
        """How to build and explain the network again."""
        return Origin(
            self.arguments, self.target_layer, self.module_folder, self.source, self.stages
        )


def identified(choice: NetworkChoice) -> dict[str, Any]:
    """What a trial has to know of a choice beside it. Raises FieldError for what is not there."""
    found: dict[str, Any] = {}
    network = outside(choice.model)
    if network is not None:
        with at("model"):
            found["source"] = source_of(network.module)
            found["module_folder"] = folder_of(network.module)
    if choice.weights is not None:
        with at("weights"):
            found |= identified_weights(choice.weights)
    return found


def identified_weights(weights: str) -> dict[str, str]:
    """What a trial has to know of weights in a file or of a run. Raises SpecError."""
    kind, colon, name = weights.partition(":")
    path = WEIGHT_SOURCES.load(kind)(name) if colon and kind in WEIGHT_SOURCES else Path(weights)
    # a worker's folder is another
    return {"weights": str(path.absolute()), "weights_digest": digest_of_file(path)}


@contextmanager
def at(*place: str) -> Iterator[None]:
    """What is wrong in the block is wrong at this place of the file."""
    try:
        yield
    except SpecError as error:
        raise FieldError((place, str(error))) from None


def digest_of_file(path: Path) -> str:
    """16 digits of the hash of a file's content. Raises SpecError where it cannot be read."""
    try:
        status = path.stat()
        if not path.is_file():
            raise SpecError(f"{path}: must be a file (found a folder)")
        return _digest(path.absolute(), status.st_mtime_ns, status.st_size)
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file (looked at {path.absolute()})") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None


@lru_cache
def _digest(path: Path, _changed_ns: int, _size: int) -> str:
    """Read once, however many trials begin from it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LENGTH]
