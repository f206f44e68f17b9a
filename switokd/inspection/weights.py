"""Weights on disk: ours, which name their network and data set, and the authors', which do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from switokd.data import DATASETS, open_pipeline
from switokd.data.batches.pipeline import Pipeline
from switokd.models import MODELS, build_model
from switokd.session.checkpoint import load_tensors
from switokd.training.evaluation import Scores, predict, score
from switokd.validation import SpecError, known_name

EVALUATION_BATCH = 256
PRECISIONS = ("fp32", "bf16", "fp64")


@dataclass(frozen=True)
class StoredNetwork:
    """Weights and what they belong to; `dataset_path`, `image_size`: None for the set's own."""

    source: str
    model: str
    dataset: str
    state_dict: dict[str, Tensor]
    dataset_path: str | None = None
    stand_in: bool = False
    image_size: int | None = None
    precision: str = "fp32"


def read_weights(path: Path, model: str | None = None, dataset: str | None = None) -> StoredNetwork:
    """Read a weights file; `model` and `dataset` for one that does not name its own.

    Takes `{"state_dict": ...}` with or without other keys, names with or without `module.`. Raises
    SpecError for a file that is not there, is no such mapping, or names no network.
    """
    try:
        content = load_tensors(path, str(path))
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file (looked at {path.absolute()})") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SpecError(str(error)) from None
    state_dict = content.get("state_dict") if isinstance(content, dict) else None
    if not (isinstance(state_dict, dict) and state_dict and _names_tensors(state_dict)):
        raise SpecError(
            f"{path}: holds no weights; must be a mapping whose 'state_dict' names tensors"
        )
    said: dict[str, Any] = {"model": model, "dataset": dataset}
    said = {key: value if value is not None else content.get(key) for key, value in said.items()}
    unsaid = [key for key, value in said.items() if not isinstance(value, str)]
    if unsaid:
        options = " and ".join(f"--{key} NAME" for key in unsaid)
        raise SpecError(f"{path}: does not say its {' and '.join(unsaid)}: give {options}")
    try:
        known_name("network", said["model"], MODELS)
        known_name("dataset", said["dataset"], DATASETS)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    return StoredNetwork(
        source=str(path),
        **said,
        state_dict={key.removeprefix("module."): value for key, value in state_dict.items()},
        **_data_and_precision(path, content),
    )


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


def _names_tensors(state_dict: dict[Any, Any]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state_dict.items())


def load_network(stored: StoredNetwork, num_classes: int) -> nn.Module:
    """The network with its weights, strictly; raises SpecError where keys or shapes differ."""
    network = build_model(stored.model, num_classes)
    try:
        network.load_state_dict(stored.state_dict)
    except RuntimeError:
        raise SpecError(
            f"{stored.source}: not the weights of {stored.model} with {num_classes} classes: "
            f"{_difference(stored.state_dict, network.state_dict())}"
        ) from None
    return network


def _difference(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    """Where two state dicts differ, by one example of each kind."""
    missing = [key for key in wanted if key not in found]
    unknown = [key for key in found if key not in wanted]
    other = [key for key in wanted if key in found and found[key].shape != wanted[key].shape]
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing (such as {missing[0]})")
    if unknown:
        parts.append(f"{len(unknown)} unknown (such as {unknown[0]})")
    if other:
        shapes = f"{tuple(found[other[0]].shape)}, must be {tuple(wanted[other[0]].shape)}"
        parts.append(f"{len(other)} of another shape (such as {other[0]}: {shapes})")
    return "of its tensors are " + ", ".join(parts)


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
    """The data set that the weights belong to, as it was for their training."""
    return open_pipeline(
        stored.dataset,
        batch_size=EVALUATION_BATCH,
        seed=0,
        image_size=stored.image_size,
        device=device,
        path=stored.dataset_path,
        stand_in=stored.stand_in,
    )


def describe(scores: Scores) -> dict[str, str]:
    """Scores as a user reads them."""
    return {
        "top-1 %": f"{scores.top1:.2f}",
        "top-5 %": f"{scores.top5:.2f}",
        "loss": f"{scores.loss:.4f}",
        "calibration error %": f"{scores.calibration_error:.2f}",
    }
