"""Exported models take images as they are, and are as good on them as the networks were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from switokd.data.sets.digits import load as load_digits
from switokd.inspection.export import save_model
from switokd.inspection.weights import StoredNetwork, evaluate, load_network, open_test_data
from switokd.models import build_model

CPU = torch.device("cpu")
Predict = Callable[[Any], dict[str, np.ndarray]]
pytestmark = pytest.mark.slow


def a_network(model: str, classes: int, channels: int, size: int) -> dict[str, torch.Tensor]:
    """Weights with running statistics of their own, which training mode would not use."""
    torch.manual_seed(0)
    network = build_model(model, classes)
    for _ in range(3):
        network(torch.randn(16, channels, size, size))
    return network.state_dict()


def exported(stored: StoredNetwork, folder: Path) -> Predict:
    save_model(stored, folder)
    return mlflow.pyfunc.load_model(str(folder)).predict


def ragged(images: list[np.ndarray]) -> np.ndarray:
    """Images of several sizes as one array, which is how MLflow takes them."""
    array = np.empty(len(images), dtype=object)
    array[:] = images
    return array


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredNetwork, Path, Predict]:
    stored = StoredNetwork("here", "resnet20", "digits", a_network("resnet20", 10, 1, 16))
    folder = tmp_path_factory.mktemp("digits") / "model"
    return stored, folder, exported(stored, folder)


def test_bytes_and_floats_are_as_good_as_evaluate(
    digits: tuple[StoredNetwork, Path, Predict],
) -> None:
    stored, _, predict = digits
    raw = load_digits(Path())
    images, labels = raw.test_images, raw.test_labels
    assert images.shape[2:] == (8, 8), "of another size than the network's 16"
    answer = predict(images)
    top1 = 100 * float(np.mean(answer["class"] == labels.astype(str)))
    assert top1 == pytest.approx(evaluate(stored, CPU).top1)
    assert answer["logits"].shape == (len(labels), 10)
    for other in (images / 255, images[:, 0], ragged(list(images))):
        np.testing.assert_allclose(predict(other)["logits"], answer["logits"], atol=1e-5)
    assert predict(images[:1])["class"].tolist() == answer["class"][:1].tolist()


def test_what_is_no_image_is_refused(digits: tuple[StoredNetwork, Path, Predict]) -> None:
    _, _, predict = digits
    for wrong, told in (
        (np.full((2, 1, 8, 8), 200.0), "floats from 0 to 1: found float64 from 200"),
        (np.full((2, 1, 8, 8), -1.0), "found float64 from -1"),
        (np.zeros((2, 1, 8, 8), np.int64), "found int64"),
        (np.zeros((2, 3, 8, 8), np.uint8), "trained on grey images"),
        (np.zeros((2, 5, 8, 8), np.uint8), r"found \(5, 8, 8\)"),
    ):
        with pytest.raises(ValueError, match=told):
            predict(wrong)


def test_a_model_says_what_it_is_and_holds_no_pickle(
    digits: tuple[StoredNetwork, Path, Predict],
) -> None:
    _, folder, _ = digits
    about = yaml.safe_load((folder / "MLmodel").read_text())
    assert "logits" in about["signature"]["outputs"]
    assert "[-1, 10]" in about["signature"]["outputs"]
    metadata = about["metadata"]
    assert metadata["classes"] == [str(digit) for digit in range(10)]
    assert (metadata["model"], metadata["dataset"]) == ("resnet20", "digits")
    assert (metadata["image_size"], metadata["resize"]) == (16, "whole image")
    assert not list(folder.rglob("*.pkl"))


def test_photographs_of_all_sizes_are_cropped_as_evaluate_does(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    files = []
    for split in ("train", "val"):
        for label in ("bird", "cat", "dog"):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for number in range(3):
                height, width = random.integers(30, 90, 2)
                pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
                if split == "val":
                    files.append(folder / f"{number}.png")
    stored = StoredNetwork(
        "here",
        "wrn_16_1",
        "image_folder",
        a_network("wrn_16_1", 3, 3, 32),
        dataset_path=str(tmp_path / "photos"),
        image_size=32,
    )
    with open_test_data(stored, CPU) as data, torch.inference_mode():
        images = next(iter(data.evaluation("test"))).images
        expected = load_network(stored, 3).eval()(images)
    photographs = ragged([np.asarray(Image.open(file)) for file in files])
    answer = exported(stored, tmp_path / "model")(photographs)
    np.testing.assert_allclose(answer["logits"], expected.numpy(), atol=1e-4)
    assert set(answer["class"]) <= {"bird", "cat", "dog"}
