"""Networks as MLflow models."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
import torch
import yaml

from switokd.inspection.export import save_model
from switokd.inspection.weights import StoredNetwork
from switokd.models import build_model


@pytest.mark.slow
def test_a_model_gives_the_networks_logits_for_any_number_of_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_model("resnet20", 10)
    for _ in range(3):
        # running statistics of its own, which a model in training mode would not use
        network(torch.randn(16, 1, 8, 8))
    network.eval()
    stored = StoredNetwork("here", "resnet20", "digits", network.state_dict(), image_size=8)
    for _ in range(2):
        save_model(stored, tmp_path / "model")
    about = yaml.safe_load((tmp_path / "model" / "MLmodel").read_text())
    assert "[-1, 1, 8, 8]" in about["signature"]["inputs"].replace("\n", "")
    assert "[-1, 10]" in about["signature"]["outputs"]
    assert about["metadata"] == {
        "model": "resnet20",
        "dataset": "digits",
        "classes": [str(digit) for digit in range(10)],
    }
    assert not list((tmp_path / "model").rglob("*.pkl"))
    loaded = mlflow.pytorch.load_model(str(tmp_path / "model"))
    images = torch.randn(5, 1, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), network(images), rtol=1e-5, atol=1e-5)
