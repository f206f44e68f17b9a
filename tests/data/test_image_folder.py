"""Streamed sets: folders and packed LMDBs in every layout, their batches and their bad inputs."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from switokd.data import open_pipeline
from switokd.data.batches.pipeline import Batch, Pipeline
from switokd.data.batches.streaming import StreamingPipeline
from switokd.data.packed.lmdb_pack import pack
from switokd.validation import DataError

ClassFolder = Callable[..., Path]
OpenPipeline = Callable[..., Pipeline]


@pytest.fixture
def open_images(tmp_path: Path) -> Iterator[OpenPipeline]:
    """open_images(path, ...) -> a pipeline of small crops, closed at the end of the test."""
    opened: list[Pipeline] = []

    def open_path(path: Path, **options: object) -> Pipeline:
        settings = {"batch_size": 5, "seed": 0, "image_size": 32, "root": tmp_path / "data"}
        opened.append(open_pipeline("image_folder", path=path, **{**settings, **options}))
        return opened[-1]

    yield open_path
    for pipeline in opened:
        pipeline.close()


@pytest.fixture
def splits(tmp_path: Path, class_folder: ClassFolder) -> Path:
    """train/ with 3 x 9 images and val/ with 3 x 3."""
    class_folder(tmp_path / "splits" / "train", images=9)
    class_folder(tmp_path / "splits" / "val", images=3)
    return tmp_path / "splits"


@pytest.fixture
def packed_splits(splits: Path, tmp_path: Path) -> Path:
    for name in ("train", "val"):
        pack(splits / name, tmp_path / "packed" / f"{name}.lmdb")
    return tmp_path / "packed"


def _equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.labels, b.labels) and all(map(torch.equal, _views(a), _views(b)))
        for a, b in zip(first, second, strict=True)
    )


def _views(batch: Batch) -> tuple[torch.Tensor, ...]:
    return batch.images if isinstance(batch.images, tuple) else (batch.images,)


def _multiset(batches: list[Batch]) -> list[tuple[int, float]]:
    labels = torch.cat([batch.labels for batch in batches]).tolist()
    means = torch.cat([batch.images.double().mean((1, 2, 3)) for batch in batches]).tolist()
    return sorted(zip(labels, [round(mean, 4) for mean in means], strict=True))


def test_evaluation_is_that_of_torchvision(splits: Path, open_images: OpenPipeline) -> None:
    transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize(37, antialias=True),
            v2.CenterCrop(32),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    theirs = ImageFolder(str(splits / "val"), transform)
    pipeline = open_images(splits)
    (batch,) = pipeline.evaluation("test")
    assert batch.labels.tolist() == theirs.targets
    expected = torch.stack([image for image, _ in theirs])
    # the JPEG decoders of Pillow and torchvision may differ by one level
    assert (batch.images - expected).abs().max() < 0.05
    assert pipeline.class_names == tuple(theirs.classes)


def test_a_packed_set_has_the_same_images_as_the_folder(
    splits: Path, packed_splits: Path, open_images: OpenPipeline
) -> None:
    for split in ("train", "test"):
        folder = list(open_images(splits).evaluation(split))
        packed = list(open_images(packed_splits).evaluation(split))
        assert _multiset(folder) == _multiset(packed)


@pytest.mark.parametrize("kind", ["splits", "packed_splits"])
def test_an_epoch_has_every_image_once(
    kind: str, request: pytest.FixtureRequest, open_images: OpenPipeline
) -> None:
    pipeline = open_images(request.getfixturevalue(kind), augmentation="none", batch_size=5)
    first, second = list(pipeline.train_epoch()), list(pipeline.train_epoch())
    # 27 images: five batches of 5 and one of 2
    assert [len(batch.labels) for batch in first] == [5] * 5 + [2]
    assert _multiset(first) == _multiset(second) == _multiset(list(pipeline.evaluation("train")))
    assert not _equal(first, second)


def test_the_last_single_image_does_not_train(splits: Path, open_images: OpenPipeline) -> None:
    pipeline = open_images(splits, batch_size=13)
    assert [len(batch.labels) for batch in pipeline.train_epoch()] == [13, 13]
    assert pipeline.steps_per_epoch == 2


@pytest.mark.parametrize("start_step", [0, 2, 5, 6])
def test_resuming_in_mid_epoch_is_exact(
    packed_splits: Path, open_images: OpenPipeline, start_step: int
) -> None:
    pipeline = open_images(packed_splits, views=2)
    list(pipeline.train_epoch())
    epoch = pipeline.train_epoch()
    for _ in range(start_step):
        next(epoch)
    saved = io.BytesIO()
    torch.save(pipeline.state_dict(), saved)
    rest, following = list(epoch), list(pipeline.train_epoch())
    resumed = open_images(packed_splits, views=2)
    resumed.load_state_dict(torch.load(io.BytesIO(saved.getvalue()), weights_only=True))
    assert _equal(list(resumed.train_epoch(start_step)), rest)
    assert _equal(list(resumed.train_epoch()), following)


def test_between_epochs_the_state_is_that_of_the_next(
    packed_splits: Path, open_images: OpenPipeline
) -> None:
    pipeline = open_images(packed_splits)
    list(pipeline.train_epoch())
    state = pipeline.state_dict()
    following = list(pipeline.train_epoch())
    resumed = open_images(packed_splits)
    resumed.load_state_dict(state)
    assert _equal(list(resumed.train_epoch()), following)


def test_every_step_and_epoch_has_crops_of_its_own(
    tmp_path: Path, photographs: list[Image.Image], open_images: OpenPipeline
) -> None:
    folder = tmp_path / "same" / "class0"
    folder.mkdir(parents=True)
    for number in range(30):
        photographs[0].resize((64, 48)).save(folder / f"{number}.png")
    pipeline = open_images(folder.parent, batch_size=6)
    crops = [batch.images for _ in range(2) for batch in pipeline.train_epoch()]
    assert len(torch.unique(torch.cat(crops), dim=0)) == 2 * pipeline.train_size


def test_batches_depend_on_the_seed_alone(packed_splits: Path, open_images: OpenPipeline) -> None:
    torch.manual_seed(1)
    first = list(open_images(packed_splits, seed=3).train_epoch())
    before = torch.get_rng_state()
    second = list(open_images(packed_splits, seed=3).train_epoch())
    assert torch.equal(torch.get_rng_state(), before)
    assert _equal(first, second)
    assert not _equal(first, list(open_images(packed_splits, seed=4).train_epoch()))


def test_views_come_from_one_decoding(
    packed_splits: Path, open_images: OpenPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    from switokd.data.batches import streaming

    decoded: list[str] = []
    decode = streaming.decode_rgb

    def counted(data: memoryview, where: str) -> torch.Tensor:
        decoded.append(where)
        return decode(data, where)

    single = list(open_images(packed_splits).train_epoch())
    monkeypatch.setattr(streaming, "decode_rgb", counted)
    several = list(open_images(packed_splits, views=3).train_epoch())
    assert len(decoded) == len(set(decoded)) == 27
    for one, three in zip(single, several, strict=True):
        assert torch.equal(one.images, three.images[0])
        assert torch.equal(one.labels, three.labels)
        assert not torch.equal(three.images[1], three.images[2])


def test_augmentations_are_what_their_names_say(splits: Path, open_images: OpenPipeline) -> None:
    plain, cropped, both = (
        next(iter(open_images(splits, augmentation=name, batch_size=27).train_epoch()))
        for name in ("none", "crop", "default")
    )
    assert not torch.equal(plain.images, cropped.images)
    mirrored = 0
    for one, other in zip(cropped.images, both.images, strict=True):
        assert torch.equal(one, other) or torch.equal(one.flip(-1), other)
        mirrored += torch.equal(one.flip(-1), other)
    assert 5 < mirrored < 22


def test_a_single_store_is_split_the_same_way_always(
    splits: Path, tmp_path: Path, open_images: OpenPipeline
) -> None:
    pack(splits / "train", tmp_path / "all.lmdb")
    for path in (splits / "train", tmp_path / "all.lmdb"):
        first, second = (
            open_images(path, seed=seed, augmentation="none", holdout=0.15) for seed in (1, 2)
        )
        held_out = _multiset(list(first.evaluation("holdout")))
        test = _multiset(list(first.evaluation("test")))
        train = _multiset(list(first.train_epoch()))
        assert (len(train), len(held_out), len(test)) == (18, 3, 6)
        assert sorted(train + held_out + test) == _multiset(
            list(open_images(splits).evaluation("train"))
        )
        assert _multiset(list(second.evaluation("test"))) == test
        assert _multiset(list(second.evaluation("holdout"))) == held_out


def test_few_images_of_a_folder_train(splits: Path, open_images: OpenPipeline) -> None:
    pipeline = open_images(splits, augmentation="none", holdout=0.2, train_images=9)
    labels = torch.cat([batch.labels for batch in pipeline.train_epoch()])
    assert pipeline.train_size == len(labels) == 9
    counts = torch.bincount(labels)
    assert counts.max() - counts.min() <= 1
    trained = _multiset(list(pipeline.evaluation("train")))
    assert len(trained) == 9
    assert not set(trained) & set(_multiset(list(pipeline.evaluation("holdout"))))


def test_splits_with_other_classes_are_refused(splits: Path, open_images: OpenPipeline) -> None:
    (splits / "val" / "class1").rename(splits / "val" / "class7")
    with pytest.raises(DataError, match=r"differ.*\['class1'\].*\['class7'\]"):
        open_images(splits)


def test_missing_parts_are_named(tmp_path: Path, splits: Path, open_images: OpenPipeline) -> None:
    with pytest.raises(DataError, match="nowhere is not there"):
        open_images(tmp_path / "nowhere")
    (splits / "val").rename(splits / "validation")
    with pytest.raises(DataError, match="splits has train but no val or test"):
        open_images(splits)
    with pytest.raises(DataError, match="needs the path of a folder or a packed LMDB"):
        open_pipeline("image_folder", batch_size=2, seed=0, root=tmp_path)


def test_a_bad_file_is_found_before_training(splits: Path, open_images: OpenPipeline) -> None:
    image = splits / "train" / "class2" / "4.jpg"
    image.write_bytes(image.read_bytes()[:500])
    (splits / "train" / "class0" / "note.jpg").write_text("hello")
    with pytest.raises(DataError, match=r"note\.jpg: not a JPEG.*2 bad files of 28.*--skip-bad"):
        open_images(splits)


def test_an_unchanged_folder_is_looked_through_once(
    splits: Path, open_images: OpenPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    from switokd.data.sets import image_folder

    looked: list[int] = []
    monkeypatch.setattr(image_folder, "structural_fault", lambda data: looked.append(len(data)))
    open_images(splits)
    assert len(looked) == 36
    open_images(splits)
    assert len(looked) == 36
    (splits / "val" / "class0" / "new.jpg").write_bytes(b"x")
    open_images(splits)
    assert len(looked) == 36 + 10


def test_damage_while_training_is_an_error_not_a_hang(
    splits: Path, open_images: OpenPipeline
) -> None:
    pipeline = open_images(splits)
    image = splits / "train" / "class1" / "3.jpg"
    image.write_bytes(image.read_bytes()[:900])
    with pytest.raises(DataError, match=r"class1/3\.jpg: does not decode"):
        list(pipeline.train_epoch())
    image.unlink()
    with pytest.raises(DataError, match=r"class1/3\.jpg: cannot be read"):
        list(pipeline.train_epoch())


def test_closing_ends_the_threads_even_in_mid_epoch(packed_splits: Path) -> None:
    before = set(threading.enumerate())
    pipeline = open_pipeline(
        "image_folder", batch_size=2, seed=0, image_size=32, path=packed_splits
    )
    epoch = pipeline.train_epoch()
    next(epoch)
    assert set(threading.enumerate()) > before
    pipeline.close()
    assert set(threading.enumerate()) == before
    pipeline.close()


def test_an_unopened_pipeline_leaves_nothing_open(
    packed_splits: Path, open_images: OpenPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    from switokd.data.packed import lmdb_reader

    with pytest.raises(DataError, match="sets no image aside"):
        open_images(packed_splits, holdout=0.01)
    assert not lmdb_reader._environments


def test_two_pipelines_may_read_one_store(packed_splits: Path, open_images: OpenPipeline) -> None:
    first, second = open_images(packed_splits, seed=1), open_images(packed_splits, seed=1)
    pairs = list(zip(first.train_epoch(), second.train_epoch(), strict=True))
    assert _equal([a for a, _ in pairs], [b for _, b in pairs])
    first.close()
    assert len(list(second.train_epoch())) == 6


def test_odd_but_sound_images_train(tmp_path: Path, open_images: OpenPipeline) -> None:
    rng = np.random.RandomState(0)
    pixels = Image.fromarray(rng.randint(0, 256, (40, 50, 3)).astype(np.uint8))
    folder = tmp_path / "odd" / "class0"
    folder.mkdir(parents=True)
    pixels.convert("CMYK").save(folder / "cmyk.jpg")
    pixels.convert("L").save(folder / "grey.jpg")
    pixels.convert("P").save(folder / "palette.png")
    pixels.convert("RGBA").save(folder / "called.jpg", "PNG")
    Image.fromarray((rng.randint(0, 65536, (40, 50))).astype(np.uint16)).save(folder / "16.png")
    pixels.convert("P").save(folder / "still.gif")
    pixels.crop((0, 0, 1, 1)).save(folder / "pixel.png")
    pixels.crop((0, 0, 50, 1)).save(folder / "line.webp")
    pipeline = open_images(folder.parent, batch_size=3)
    for _ in range(3):
        for batch in pipeline.train_epoch():
            assert batch.images.isfinite().all()
    assert pipeline.train_size == 6


def test_a_pool_is_read_ahead_once(
    packed_splits: Path, open_images: OpenPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    from switokd.data.batches import streaming

    monkeypatch.setattr(streaming, "POOL", 8)
    pipeline = open_images(packed_splits, batch_size=5)
    assert isinstance(pipeline, StreamingPipeline)
    seen: list[np.ndarray] = []
    monkeypatch.setattr(pipeline._splits.train, "read_ahead", seen.append)
    list(pipeline.train_epoch())
    pipeline.close()
    assert sorted(np.concatenate(seen).tolist()) == list(range(27))
    assert max(map(len, seen)) == 8


def test_imagenet_with_a_class_missing_is_refused(splits: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 classes, but ImageNet has 1000"):
        open_pipeline("imagenet", batch_size=4, seed=0, path=splits, root=tmp_path)
    with pytest.raises(DataError, match=r"imagenet is not there.*\n  switokd data pack"):
        open_pipeline("imagenet", batch_size=4, seed=0, root=tmp_path)


@pytest.mark.slow
def test_imagenet_in_its_layout(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 50), (90, 10, 200)).save(buffer, "JPEG")
    for split, images in (("train", 2), ("val", 1)):
        for label in range(1000):
            folder = tmp_path / "imagenet" / split / f"n{label * 17:08d}"
            folder.mkdir(parents=True)
            for number in range(images):
                (folder / f"{folder.name}_{number}.JPEG").write_bytes(buffer.getvalue())
    pack(tmp_path / "imagenet" / "train", tmp_path / "imagenet" / "train.lmdb")
    with open_pipeline("imagenet", batch_size=512, seed=0, root=tmp_path) as pipeline:
        assert (pipeline.train_size, pipeline.num_classes) == (2000, 1000)
        assert pipeline.class_names[3] == "n00000051"
        batch = next(pipeline.train_epoch())
        assert batch.images.shape == (512, 3, 224, 224)
        assert sum(len(batch.labels) for batch in pipeline.evaluation("test")) == 1000
