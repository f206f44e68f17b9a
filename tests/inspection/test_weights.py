"""Weights files: ours, the authors', and what is no weights file at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from switokd.inspection.weights import evaluate, load_network, read_weights
from switokd.models import build_model
from switokd.validation import SpecError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model("wrn_16_1", 10)


def ours(network: torch.nn.Module, **changes: Any) -> dict[str, Any]:
    return {
        "state_dict": network.state_dict(),
        "model": "wrn_16_1",
        "dataset": "digits",
        "dataset_path": None,
        "image_size": 8,
        "precision": "fp32",
        **changes,
    }


def complaint(path: Path, content: Any, **said: str) -> str:
    torch.save(content, path)
    with pytest.raises(SpecError) as raised:
        load_network(read_weights(path, **said), 10)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)
    return str(raised.value).removeprefix(f"{path}: ")


class RunsCode:
    """What a pickle bomb does when it is read."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.evidence),)


def test_the_authors_names_score_like_ours(network: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(ours(network), tmp_path / "ours.pt")
    stored = read_weights(tmp_path / "ours.pt")
    assert (stored.model, stored.dataset, stored.image_size) == ("wrn_16_1", "digits", 8)
    weights = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "theirs.pth.tar")
    theirs = read_weights(tmp_path / "theirs.pth.tar", "wrn_16_1", "digits")
    assert (theirs.image_size, theirs.precision) == (None, "fp32")
    for key, value in load_network(theirs, 10).state_dict().items():
        assert torch.equal(value, network.state_dict()[key])


def test_an_evaluation_reads_the_data_as_training_did(
    network: torch.nn.Module, tmp_path: Path
) -> None:
    torch.save(ours(network), tmp_path / "small.pt")
    torch.save(ours(network, image_size=16), tmp_path / "large.pt")
    small = evaluate(read_weights(tmp_path / "small.pt"), CPU)
    assert small == evaluate(read_weights(tmp_path / "small.pt"), CPU)
    assert small.loss != evaluate(read_weights(tmp_path / "large.pt"), CPU).loss


def test_options_say_what_the_file_does_not(network: torch.nn.Module, tmp_path: Path) -> None:
    path, bare = tmp_path / "x.pt", {"state_dict": network.state_dict()}
    assert complaint(path, bare) == (
        "does not say its model and dataset: give --model NAME and --dataset NAME"
    )
    assert complaint(path, bare, model="wrn_16_1") == (
        "does not say its dataset: give --dataset NAME"
    )
    assert complaint(path, ours(network), model="nonet").startswith("unknown network 'nonet'")
    torch.save(ours(network, model="resnet20"), path)
    assert read_weights(path, model="wrn_16_1").model == "wrn_16_1"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "wrn_16_3"}, "unknown network 'wrn_16_3'; did you mean"),
        ({"model": 3}, "does not say its model"),
        ({"dataset": "digit"}, "unknown dataset 'digit'; did you mean 'digits'?"),
        ({"image_size": "big"}, "image_size is 'big', which no trial has"),
        ({"precision": 7}, "precision is 7, which no trial has"),
        ({"dataset_path": 7}, "dataset_path is 7, which no trial has"),
        ({"state_dict": {}}, "holds no weights; must be a mapping whose 'state_dict' names"),
        ({"state_dict": {3: torch.zeros(1)}}, "holds no weights; must be a mapping"),
        ({"state_dict": {"a": 3}}, "holds no weights; must be a mapping"),
        (
            {"state_dict": {"a": torch.zeros(1)}},
            "not the weights of wrn_16_1 with 10 classes: of its tensors are ",
        ),
    ],
)
def test_a_wrong_file_is_told_in_one_line(
    network: torch.nn.Module, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    assert complaint(tmp_path / "x.pt", ours(network, **changes)).startswith(told)


def test_weights_of_another_network_or_number_of_classes(tmp_path: Path) -> None:
    hundred = build_model("wrn_16_1", 100)
    assert complaint(tmp_path / "x.pt", ours(hundred)).endswith(
        "of its tensors are 2 of another shape (such as linear.weight: (100, 64), must be (10, 64))"
    )
    other = complaint(tmp_path / "x.pt", ours(build_model("resnet20", 10)))
    assert " missing (such as " in other
    assert " unknown (such as " in other
    assert len(other) < 400


def test_what_is_no_weights_file(tmp_path: Path) -> None:
    assert complaint(tmp_path / "list.pt", [1, 2]).startswith("holds no weights")
    (tmp_path / "text.pt").write_text("garbage", encoding="utf-8")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "folder.pt").mkdir()
    for name in ("text.pt", "empty.pt", "folder.pt", "none.pt"):
        with pytest.raises(SpecError) as raised:
            read_weights(tmp_path / name)
        assert str(raised.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_reading_a_file_runs_no_code(network: torch.nn.Module, tmp_path: Path) -> None:
    evidence = tmp_path / "it ran"
    told = complaint(tmp_path / "x.pt", ours(network, extra=RunsCode(evidence)))
    assert "whole pickled objects, which are refused" in told
    assert not evidence.exists()
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert evidence.exists()
