"""Weights in files: ours, the authors', a bare state dict or safetensors, loaded strictly."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from switokd.validation import SpecError

SAFETENSORS = ".safetensors"
STATE_DICT = "state_dict"


def load_tensors(source: Path | io.BytesIO, name: str) -> Any:
    """torch.load onto the CPU of tensors and plain containers only.

    Raises ValueError for a file that is none of torch's or that would run code when read.
    """
    try:
        with warnings.catch_warnings():
            # a foreign pickle is refused below; torch's remarks on it are not for users
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(source, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        # torch's own words advise to read the file unsafely
        raise ValueError(
            f"{name}: not a file of tensors and plain values alone (damaged, of another kind, or "
            "with whole pickled objects, which are refused because reading them runs their code)"
        ) from None


def read_weights_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file by their names, without `module.`, and what else the file says.

    Takes `{"state_dict": ...}` with or without other keys, a state dict alone, and safetensors.
    Raises SpecError for a file that is not there or is none of these.
    """
    try:
        content = _read(path)
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file (looked at {path.absolute()})") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SpecError(str(error)) from None
    about = content if isinstance(content, dict) and STATE_DICT in content else {}
    tensors = about.get(STATE_DICT, content)
    if not (isinstance(tensors, dict) and tensors and _names_tensors(tensors)):
        raise SpecError(
            f"{path}: holds no weights; must be a mapping whose 'state_dict' names tensors, or "
            "tensors by their names"
        )
    return {key.removeprefix("module."): value for key, value in tensors.items()}, about


def _read(path: Path) -> Any:
    if path.suffix != SAFETENSORS:
        return load_tensors(path, str(path))
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError:
        raise SpecError(f"{path}: needs the package safetensors, which is not installed") from None
    try:
        return load(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path}: no file of safetensors ({error})") from None


def _names_tensors(state_dict: Mapping[Any, Any]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state_dict.items())


def with_new_head(
    network: nn.Module, tensors: Mapping[str, Tensor], num_classes: int, source: str
) -> dict[str, Tensor]:
    """Tensors of another number of classes, with the network's own where that shows.

    It shows in a tensor whose first dimension is the number of classes in the network, and another
    in the file, the others alike. Raises SpecError where it shows in none.
    """
    own = network.state_dict()
    heads = [
        key
        for key, value in tensors.items()
        if key in own
        and value.shape[:1] != own[key].shape[:1] == (num_classes,)
        and value.shape[1:] == own[key].shape[1:]
    ]
    if not heads:
        raise SpecError(
            f"{source}: has no head of another number of classes than {num_classes}: leave out "
            "new_head"
        )
    return {**tensors, **{key: own[key] for key in heads}}


def load_strictly(
    network: nn.Module, tensors: Mapping[str, Tensor], source: str, called: str
) -> None:
    """Load tensors from `source` into the network `called` so.

    Raises SpecError where keys or shapes differ, or where a tensor is not finite.
    """
    for key, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise SpecError(f"{source}: {key} has values that are not finite (NaN or infinity)")
    try:
        network.load_state_dict(tensors)
    except RuntimeError:
        raise SpecError(
            f"{source}: not the weights of {called}: {_difference(tensors, network.state_dict())}"
        ) from None


def _difference(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
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
