"""Which data a trial is trained on: a known set, a user's own images, or what their module gives.

What comes from outside is identified by its content: images by their fingerprint, wherever they
lie, and what a callable gives by its code too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue, Strict, model_validator

from switokd.data import checked_dataset, describe
from switokd.data.fingerprint import fingerprint
from switokd.data.source import DataOrigin, MemorySource
from switokd.spec.identity import AddedLater, NotIdentity, ReplacedBy
from switokd.user_modules import folder_of, is_address, source_of
from switokd.validation import DataError, FieldError, Frozen, Text, shown

# the reader of anybody's images, whose name says nothing of them
OWN_IMAGES = "image_folder"


def dataset_name(dataset: str, path: str | None) -> str:
    """What people call the data: a user's own images are named after their folder or file."""
    return Path(path).name if path and dataset == OWN_IMAGES else dataset


class DatasetOfTrial(Frozen):
    """The data of a trial, flat among its fields.

    dataset_path: of images that a user brings; trials made before images were identified by their
    content have it in their ids. dataset_arguments, dataset_source, dataset_folder: of a user's
    callable, what it is called with, what identifies its code, and where its module was found.
    dataset_digest: of the content of data from outside. stand_in: a few random images instead.
    """

    dataset: Annotated[Text, AfterValidator(checked_dataset)]
    dataset_path: Annotated[Text | None, AddedLater(None), ReplacedBy("dataset_digest")] = None
    dataset_arguments: Annotated[dict[Text, JsonValue], AddedLater({})] = Field(default={})
    dataset_source: Annotated[Text | None, AddedLater(None)] = None
    dataset_digest: Annotated[Text | None, AddedLater(None)] = None
    dataset_folder: Annotated[Text | None, NotIdentity()] = None
    stand_in: Annotated[bool, Strict(), AddedLater(False)] = False

    @model_validator(mode="after")
    def _what_a_callable_gives_is_identified(self) -> DatasetOfTrial:
        if (self.dataset_source is not None) != is_address(self.dataset):
            needed = "is required: load_experiment finds it"
            told = needed if is_address(self.dataset) else "must be null"
            raise FieldError((("dataset_source",), f"{told} (found {shown(self.dataset_source)})"))
        return self

    @property
    def dataset_name(self) -> str:
        return dataset_name(self.dataset, self.dataset_path)

    @property
    def data_origin(self) -> DataOrigin:
        """How to open data from outside again."""
        return DataOrigin(
            self.dataset_arguments, self.dataset_folder, self.dataset_source, self.dataset_digest
        )


def identified_data(name: str, path: str | None, arguments: dict[str, Any]) -> dict[str, Any]:
    """The fields of `DatasetOfTrial` for what a file says.

    Raises SpecError and DataError for a callable that does not give a set.
    """
    found: dict[str, Any] = {
        "dataset": name,
        "dataset_path": path,
        "dataset_arguments": arguments,
    }
    if is_address(name):
        module = name.partition(":")[0]
        found |= {"dataset_source": source_of(module), "dataset_folder": folder_of(module)}
        origin = DataOrigin(arguments, found["dataset_folder"], found["dataset_source"])
        source = describe(name, origin)
        assert isinstance(source, MemorySource), source
        found["dataset_digest"] = source.digest
    elif path is not None:
        try:
            found["dataset_digest"] = fingerprint(Path(path).expanduser().absolute())
        except DataError:
            # what is wrong with the images, their reader says
            found["dataset_digest"] = None
    return found
