"""Weights on disk: ours, which name their network and data set, and the authors', which do not."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from switokd.data import (
    KNOWN_SET,
    DataOrigin,
    Source,
    check_content,
    checked_dataset,
    describe,
    open_pipeline,
)
from switokd.data.batches.pipeline import Pipeline
from switokd.models import OF_THE_ZOO, build_model, checked_model
from switokd.models.outside import Origin, outside
from switokd.models.stored_weights import load_strictly, read_weights_file
from switokd.training.evaluation import Scores, predict, score
from switokd.user_modules import add_to_path, is_address, source_of
from switokd.validation import DataError, SpecError

log = logging.getLogger(__name__)

EVALUATION_BATCH = 256
AnyOrigin = TypeVar("AnyOrigin", Origin, DataOrigin)
PRECISIONS = ("fp32", "bf16", "fp64")


@dataclass(frozen=True)
class StoredNetwork:
    """Weights and what they belong to; `dataset_path`, `image_size`: None for the set's own.

    name: a short one for tables. origin: how it is built, where it is from outside. data_origin:
    likewise, of the data.
    """

    source: str
    model: str
    dataset: str
    state_dict: dict[str, Tensor]
    name: str | None = None
    origin: Origin = OF_THE_ZOO
    dataset_path: str | None = None
    data_origin: DataOrigin = KNOWN_SET
    stand_in: bool = False
    image_size: int | None = None
    precision: str = "fp32"

    @property
    def label(self) -> str:
        """What the network is called in tables."""
        return self.name or self.model

    @property
    def data_source(self) -> Source:
        """What the data set states about itself."""
        return describe(self.dataset, self.data_origin)


def read_weights(path: Path, model: str | None = None, dataset: str | None = None) -> StoredNetwork:
    """Read a weights file; `model` and `dataset` for one that does not name its own.

    Takes every form of `stored_weights.read_weights_file`. Raises SpecError for a file that is none
    of them, or names no network.
    """
    tensors, content = read_weights_file(path)
    said: dict[str, Any] = {"model": model, "dataset": dataset}
    said = {key: value if value is not None else content.get(key) for key, value in said.items()}
    unsaid = [key for key, value in said.items() if not isinstance(value, str)]
    if unsaid:
        options = " and ".join(f"--{key} NAME" for key in unsaid)
        raise SpecError(f"{path}: does not say its {' and '.join(unsaid)}: give {options}")
    try:
        checked_model(said["model"])
        checked_dataset(said["dataset"])
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    # a model named by hand is another than that which the file tells of
    told = model in (None, content.get("model"))
    return StoredNetwork(
        source=str(path),
        **said,
        state_dict=tensors,
        origin=_origin(path, content, said["model"]) if told else OF_THE_ZOO,
        name=content.get("name") if told else None,
        data_origin=_data_origin(path, content, said["dataset"]),
        **_data_and_precision(path, content),
    )


def _origin(path: Path, content: dict[str, Any], model: str) -> Origin:
    """How to build a network from outside again; a warning where its code is another by now."""
    said = content.get("origin")
    if not isinstance(said, dict):
        return OF_THE_ZOO
    origin = Origin(**_fields(path, "origin", said, Origin))
    network = outside(model)
    return origin if network is None else _with_code_of_now(path, model, network.module, origin)


def _data_origin(path: Path, content: dict[str, Any], dataset: str) -> DataOrigin:
    """How to open data from outside again; a warning where their code is another by now."""
    said = content.get("data_origin")
    if not isinstance(said, dict):
        return KNOWN_SET
    origin = DataOrigin(**_fields(path, "data_origin", said, DataOrigin))
    if not is_address(dataset):
        return origin
    return _with_code_of_now(path, dataset, dataset.partition(":")[0], origin)


def _fields(path: Path, key: str, said: dict[str, Any], kind: type[AnyOrigin]) -> dict[str, Any]:
    known = {name: said.get(name) for name in kind.__dataclass_fields__}
    if not isinstance(known["arguments"], dict):
        raise SpecError(f"{path}: {key} is {said!r}, which no trial has")
    return known


def _with_code_of_now(path: Path, called: str, module: str, origin: AnyOrigin) -> AnyOrigin:
    if origin.module_folder is not None:
        add_to_path(origin.module_folder)
    now = source_of(module)
    if origin.source not in (None, now):
        log.warning(
            "%s: the code of %s has changed since (its source was %s, and is %s)",
            path,
            called,
            origin.source,
            now,
        )
    return replace(origin, source=now)


def _data_and_precision(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """What else a file of ours says; one that says nothing of it gets the defaults."""
    allowed: dict[str, tuple[type, ...]] = {
        "dataset_path": (str,),
        "stand_in": (bool,),
        "image_size": (int,),
    }
    said = {key: content[key] for key in (*allowed, "precision") if content.get(key) is not None}
    for key, value in said.items():
        known = value in PRECISIONS if key == "precision" else isinstance(value, allowed[key])
        if not known:
            raise SpecError(f"{path}: {key} is {value!r}, which no trial has")
    return said


def load_network(stored: StoredNetwork, num_classes: int) -> nn.Module:
    """The network with its weights, strictly; raises SpecError where keys or shapes differ."""
    network = build_model(stored.model, num_classes, stored.origin)
    called = f"{stored.model} with {num_classes} classes"
    load_strictly(network, stored.state_dict, stored.source, called)
    return network


def evaluate(stored: StoredNetwork, device: torch.device) -> Scores:
    """The scores of stored weights on their data set's test set. Raises SpecError, DataError."""
    with open_test_data(stored, device) as data:
        network = load_network(stored, data.num_classes)
        dtype = torch.float64 if stored.precision == "fp64" else torch.float32
        network.to(device, dtype).to(memory_format=torch.channels_last)
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=stored.precision == "bf16")
        logits, targets = predict({"network": network}, data.evaluation("test"), autocast, dtype)
    return score(logits["network"], targets)


def open_test_data(stored: StoredNetwork, device: torch.device) -> Pipeline:
    """The data set that the weights belong to, as it was for their training.

    A warning where its images are others by now.
    """
    origin = stored.data_origin
    if origin.digest is not None and not stored.stand_in:
        path = None if stored.dataset_path is None else Path(stored.dataset_path)
        try:
            check_content(stored.data_source, path, origin.digest)
        except DataError as error:
            log.warning("%s: %s", stored.source, error)
    return open_pipeline(
        stored.dataset,
        batch_size=EVALUATION_BATCH,
        seed=0,
        image_size=stored.image_size,
        device=device,
        path=stored.dataset_path,
        stand_in=stored.stand_in,
        origin=replace(origin, digest=None),
    )


def in_words(scores: Scores) -> dict[str, str]:
    """Scores as a user reads them."""
    return {
        "top-1 %": f"{scores.top1:.2f}",
        "top-5 %": f"{scores.top5:.2f}",
        "loss": f"{scores.loss:.4f}",
        "calibration error %": f"{scores.calibration_error:.2f}",
    }
