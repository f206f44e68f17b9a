"""What can be known of a data set before it is read, and the mistakes that are refused then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from switokd.data import DATASETS, data_root, describe, open_pipeline
from switokd.validation import DataError, SpecError


def test_describing_every_set_imports_no_torch() -> None:
    code = (
        "import sys, switokd.data as data\n"
        "for name in data.DATASETS: assert data.describe(name).name == name\n"
        "assert 'torch' not in sys.modules and 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "classes", "size", "channels", "augmentation"),
    [
        ("digits", 10, 16, 1, "none"),
        ("cifar10", 10, 32, 3, "crop_flip"),
        ("cifar100", 100, 32, 3, "crop_flip"),
        ("fashion_mnist", 10, 28, 1, "crop_flip"),
        ("mnist", 10, 28, 1, "crop"),
        ("tiny_imagenet", 200, 64, 3, "crop_flip"),
        ("imagenet", 1000, 224, 3, "crop_flip"),
        ("image_folder", None, 224, 3, "crop_flip"),
    ],
)
def test_a_set_states_what_it_is(
    name: str, classes: int | None, size: int, channels: int, augmentation: str
) -> None:
    source = describe(name)
    assert source.nominal_classes == classes
    assert source.image_size == size
    assert source.channels == channels == len(source.std)
    assert source.augmentation == augmentation


def test_an_unknown_set_is_answered_with_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean 'cifar100'"):
        open_pipeline("cifar-100", batch_size=4, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"holdout": 1.0}, "holdout 1.0"),
        ({"holdout": -0.1}, "holdout -0.1"),
        ({"holdout": 1e-6}, "sets no image aside"),
        ({"image_size": 0}, "image_size 0"),
        ({"augmentation": "mixup"}, "augmentation 'mixup'.*crop_flip"),
        ({"views": 0}, "views 0"),
        ({"path": "somewhere"}, "takes no path"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_pipeline("digits", **{"batch_size": 8, "seed": 0, **options})


def test_missing_sets_name_the_path_and_a_command(tmp_path: Path) -> None:
    for name in DATASETS.keys() - {"digits", "image_folder", "fashion_mnist"}:
        with pytest.raises(DataError) as caught:
            open_pipeline(name, batch_size=8, seed=0, root=tmp_path)
        first, command = str(caught.value).split("\n", 1)
        assert first.startswith(str(tmp_path))
        assert command.strip().startswith(("python -m", "unzip", "switokd data pack"))


def test_the_root_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWITOKD_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root("elsewhere") == Path.cwd() / "elsewhere"
    monkeypatch.delenv("SWITOKD_DATA")
    assert data_root() == Path.cwd() / "data"


def test_download_is_only_for_sets_that_torchvision_fetches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    from switokd.data.download import main

    asked: list[tuple[Path, bool]] = []
    monkeypatch.setattr(datasets, "CIFAR10", lambda root, download: asked.append((root, download)))
    assert main(["cifar10", "--root", str(tmp_path)]) == 0
    assert asked == [(tmp_path, True)]
    assert main(["imagenet", "--root", str(tmp_path)]) == 2
    assert "imagenet is not downloaded" in capsys.readouterr().err
