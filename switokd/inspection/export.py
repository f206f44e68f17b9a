"""A trained network as an MLflow model, with the signature of what it takes and gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from switokd.inspection.weights import StoredNetwork, load_network, open_test_data
from switokd.provenance import library_versions
from switokd.tracking import artifacts


def save_model(stored: StoredNetwork, folder: Path) -> None:
    """Write the network to `folder`, replacing what is there.

    It takes normalised images (B, C, H, W) and gives logits (B, K), both float32, and is read with
    `mlflow.pytorch.load_model`, without this package. Raises SpecError and DataError.
    """
    device = torch.device("cpu")
    with open_test_data(stored, device) as data:
        network = load_network(stored, data.num_classes).float().eval()
        images, _ = next(iter(data.evaluation("test")))
        assert isinstance(images, torch.Tensor), "evaluation has one view"
        images = images[:2].float()
        classes = list(data.class_names)
    with torch.inference_mode():
        logits = network(images)
    shutil.rmtree(folder, ignore_errors=True)
    versions = {name: library_versions()[name] for name in ("torch", "torchvision")}
    about = {"model": stored.model, "dataset": stored.dataset, "classes": classes}
    artifacts.save_model(network, images.numpy(), logits.numpy(), folder, versions, about)
