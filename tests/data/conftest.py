"""Archives and folders in exactly the formats that the published data sets have, but small."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import datasets

from switokd.data.batches.in_memory import InMemoryPipeline
from switokd.data.batches.pipeline import PipelineOptions
from switokd.data.source import ImageArrays, MemorySource

Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def photographs() -> list[Image.Image]:
    """The two photographs that scikit-learn carries, 640 x 427."""
    return [Image.fromarray(image) for image in load_sample_images().images]


@pytest.fixture(scope="session")
def encode() -> Encode:
    """encode(image, "JPEG", quality=90) -> the bytes of the file."""

    def encode_image(image: Image.Image, image_format: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, image_format, **options)
        return buffer.getvalue()

    return encode_image


@pytest.fixture
def class_folder(photographs: list[Image.Image]) -> Callable[..., Path]:
    """class_folder(path, classes=3, images=8) -> path, with class folders of distinct JPEGs."""

    def write(path: Path, classes: int = 3, images: int = 8) -> Path:
        for label in range(classes):
            folder = path / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(images):
                shade = photographs[label % 2].crop((number % 20 * 9, label * 7, 300, 200))
                shade.resize((96 + 8 * number, 80)).save(folder / f"{number}.jpg", quality=85)
        return path

    return write


def memory_pipeline(
    train_labels: np.ndarray | list[int], *, size: int = 8, channels: int = 1, **options: object
) -> InMemoryPipeline:
    """A pipeline of images that all differ: image i has the value i in its first row."""
    labels = np.asarray(train_labels, np.int64)
    images = np.random.RandomState(1).randint(0, 256, (len(labels), channels, size, size))
    images[:, :, 0] = np.arange(len(labels))[:, None, None] % 256
    arrays = ImageArrays(
        train_images=images.astype(np.uint8),
        train_labels=labels,
        test_images=images[::-1].astype(np.uint8).copy(),
        test_labels=labels[::-1].copy(),
        class_names=tuple(str(label) for label in range(labels.max() + 1)),
    )
    source = MemorySource(
        name="made_up",
        nominal_classes=None,
        image_size=size,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        augmentation="none",
        native_size=size,
        load=lambda root: arrays,
    )
    settings = {
        "batch_size": 4,
        "seed": 0,
        "holdout": 0.0,
        "train_images": None,
        "image_size": size,
        "augmentation": "crop_flip",
        "views": 1,
        "device": "cpu",
        "root": Path("unused"),
        "path": None,
    }
    return InMemoryPipeline(source, PipelineOptions(**{**settings, **options}))


@pytest.fixture(name="memory_pipeline")
def memory_pipeline_fixture() -> Callable[..., InMemoryPipeline]:
    return memory_pipeline


@pytest.fixture
def write_cifar(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, np.ndarray]]:
    """write_cifar(root, classes=10) -> what it wrote; the published digests are set to match."""

    def write(root: Path, classes: int = 10, archive: bool = False) -> dict[str, np.ndarray]:
        reader = datasets.CIFAR10 if classes == 10 else datasets.CIFAR100
        rng = np.random.RandomState(classes)
        folder = root / reader.base_folder
        folder.mkdir(parents=True)
        written: dict[str, list[np.ndarray]] = {"train": [], "test": [], "labels": []}

        def save(name: str, content: object) -> list[str]:
            data = pickle.dumps(content, protocol=2)
            (folder / name).write_bytes(data)
            return [name, md5(data).hexdigest()]

        def batch(name: str, split: str) -> list[str]:
            pixels = rng.randint(0, 256, (20, 3072)).astype(np.uint8)
            labels = rng.permutation(np.arange(20) % classes)
            written[split].append(pixels.reshape(20, 3, 32, 32))
            if split == "train":
                written["labels"].append(labels)
            key = "labels" if classes == 10 else "fine_labels"
            return save(name, {"data": pixels, key: labels.tolist(), "filenames": [""] * 20})

        if classes == 10:
            train = [batch(f"data_batch_{number}", "train") for number in range(1, 6)]
            test = [batch("test_batch", "test")]
            names, key = [f"class {c}" for c in range(10)], "label_names"
        else:
            train, test = [batch("train", "train")], [batch("test", "test")]
            names, key = [f"class {c}" for c in range(100)], "fine_label_names"
        meta_name, meta_md5 = save(reader.meta["filename"], {key: names})
        monkeypatch.setattr(reader, "train_list", train)
        monkeypatch.setattr(reader, "test_list", test)
        monkeypatch.setattr(reader, "meta", {"filename": meta_name, "key": key, "md5": meta_md5})
        if archive:
            path = root / reader.filename
            with tarfile.open(path, "w:gz") as tar:
                tar.add(folder, reader.base_folder)
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
            monkeypatch.setattr(reader, "tgz_md5", md5(path.read_bytes()).hexdigest())
        return {name: np.concatenate(parts) for name, parts in written.items()}

    return write
