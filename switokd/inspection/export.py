"""A trained network as an MLflow model that takes images as they are, and names their classes."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from switokd.data.batches.resized_crop import EVALUATION_MARGIN
from switokd.data.source import StreamSource
from switokd.inspection.weights import StoredNetwork, load_network, open_test_data
from switokd.provenance import library_versions
from switokd.tracking import artifacts
from switokd.user_modules import user_code


def save_model(stored: StoredNetwork, folder: Path) -> dict[str, Any]:
    """Write the network to `folder`, replacing what is there; what is known of it.

    The model scales, crops and normalises as the network's evaluation does: it takes images as
    uint8, or as floats from 0 to 1, of any size, and gives logits and class names. It is read with
    `mlflow.pyfunc.load_model`, without this package. Raises SpecError and DataError.
    """
    device = torch.device("cpu")
    source = stored.data_source
    with open_test_data(stored, device) as data:
        network = load_network(stored, data.num_classes).float().eval()
        images, *_ = next(iter(data.evaluation("test")))
        assert isinstance(images, torch.Tensor), "evaluation has one view"
        size, classes = data.options.image_size, list(data.class_names)
    about: dict[str, Any] = {
        "model": stored.label,
        "dataset": stored.dataset,
        "classes": classes,
        "channels": source.channels,
        "image_size": size,
        "mean": list(source.mean),
        "std": list(source.std),
        "resize": "whole image",
    }
    if isinstance(source, StreamSource):
        about |= {
            "resize": "short side, then centre",
            "short_side": round(size * EVALUATION_MARGIN),
        }
    two = images[:1].float().repeat(2, 1, 1, 1)
    with user_code(f"{stored.model} cannot be exported"):
        graph = torch.export.export(
            network, (two,), dynamic_shapes=({0: torch.export.Dim("images", min=1)},)
        )
    shutil.rmtree(folder, ignore_errors=True)
    versions = {name: library_versions()[name] for name in ("torch", "torchvision", "numpy")}
    with tempfile.TemporaryDirectory() as name:
        files = {"network": Path(name) / "network.pt2", "about": Path(name) / "about.json"}
        torch.export.save(graph, files["network"])
        files["about"].write_text(json.dumps(about, indent=1), encoding="utf-8")
        artifacts.save_model(folder, files, len(classes), versions, about)
    return about
