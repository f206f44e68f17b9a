"""Weights files: every form gives the same tensors, and what is no weights file is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from switokd.models.stored_weights import load_strictly, read_weights_file
from switokd.validation import SpecError


def network(outputs: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(2, outputs), nn.BatchNorm1d(outputs))


@pytest.mark.parametrize("form", ["ours", "theirs", "bare", "safetensors"])
def test_every_form_is_read(tmp_path: Path, form: str) -> None:
    first, second = network(), network()
    tensors = first.state_dict()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        save_file(tensors, path)
    else:
        parallel = {f"module.{key}": value for key, value in tensors.items()}
        contents = {"ours": {"state_dict": tensors, "model": "x"}, "theirs": parallel}
        torch.save(contents.get(form, dict(tensors)), path)
    read, about = read_weights_file(path)
    assert about.get("model") == ("x" if form == "ours" else None)
    load_strictly(second, read, str(path), "a network")
    for key, value in second.state_dict().items():
        assert torch.equal(value, tensors[key])


def complaint(path: Path, content: Any) -> str:
    torch.save(content, path)
    with pytest.raises(SpecError) as raised:
        load_strictly(network(), read_weights_file(path)[0], str(path), "net with 3 classes")
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)
    return str(raised.value).removeprefix(f"{path}: ")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = {**network(4).state_dict(), "extra": torch.zeros(1)}
    del other["1.running_var"]
    assert complaint(tmp_path / "w.pt", other) == (
        "not the weights of net with 3 classes: of its tensors are 1 missing (such as "
        "1.running_var), 1 unknown (such as extra), 5 of another shape (such as 0.weight: (4, 2), "
        "must be (3, 2))"
    )


def test_one_tensor_less_or_more_is_refused(tmp_path: Path) -> None:
    more = {**network().state_dict(), "extra": torch.zeros(1)}
    assert complaint(tmp_path / "w.pt", more).endswith("are 1 unknown (such as extra)")
    less = {key: value for key, value in network().state_dict().items() if key != "0.bias"}
    assert complaint(tmp_path / "w.pt", less).endswith("are 1 missing (such as 0.bias)")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    tensors = network().state_dict()
    tensors["0.bias"][1] = value
    told = complaint(tmp_path / "w.pt", tensors)
    assert told == "0.bias has values that are not finite (NaN or infinity)"


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    assert "whole pickled objects, which are refused" in complaint(tmp_path / "w.pt", network())
    (tmp_path / "w.safetensors").write_bytes(b"no")
    with pytest.raises(SpecError, match=r"w.safetensors: no file of safetensors"):
        read_weights_file(tmp_path / "w.safetensors")
