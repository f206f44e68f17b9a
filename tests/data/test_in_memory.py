"""The pipeline of sets that fit in memory: what an epoch holds, and what it depends on."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch

from switokd.data import open_pipeline
from switokd.data.batches.in_memory import InMemoryPipeline
from switokd.validation import DataError

MakePipeline = Callable[..., InMemoryPipeline]
LABELS = np.arange(50) % 5


def _equal(first: list, second: list) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        for a, b in zip(first, second, strict=True)
    )


def _identities(batches: list) -> list[int]:
    """Which training images: with no augmentation the first row holds the image's number."""
    rows = torch.cat([batch.images[:, 0, 0, 0] for batch in batches])
    return ((rows * 0.25 + 0.5) * 255).round().long().tolist()


def test_an_epoch_has_every_image_once_with_its_label(memory_pipeline: MakePipeline) -> None:
    pipeline = memory_pipeline(LABELS, augmentation="none", batch_size=8)
    first, second = (list(pipeline.train_epoch()) for _ in range(2))
    assert sorted(_identities(first)) == sorted(_identities(second)) == list(range(50))
    assert _identities(first) != _identities(second)
    assert torch.cat([batch.labels for batch in first]).tolist() == [
        number % 5 for number in _identities(first)
    ]


@pytest.mark.parametrize(("images", "steps"), [(48, 6), (49, 6), (50, 7), (7, 1)])
def test_the_last_batch_trains_unless_it_is_one_image(
    memory_pipeline: MakePipeline, images: int, steps: int
) -> None:
    pipeline = memory_pipeline(np.arange(images) % 5, batch_size=8)
    sizes = [len(batch.labels) for batch in pipeline.train_epoch()]
    assert len(sizes) == steps == pipeline.steps_per_epoch
    assert sum(sizes) == (images - 1 if images % 8 == 1 else images)


def test_batches_of_one_are_kept_when_asked_for(memory_pipeline: MakePipeline) -> None:
    assert memory_pipeline(LABELS, batch_size=1).steps_per_epoch == 50


@pytest.mark.parametrize("start_step", [0, 3, 12, 13])
def test_resuming_in_mid_epoch_is_exact(memory_pipeline: MakePipeline, start_step: int) -> None:
    pipeline = memory_pipeline(LABELS, batch_size=4)
    list(pipeline.train_epoch())
    epoch = pipeline.train_epoch()
    taken = [next(epoch) for _ in range(start_step)]
    saved = io.BytesIO()
    torch.save(pipeline.state_dict(), saved)
    rest, following = list(epoch), list(pipeline.train_epoch())

    resumed = memory_pipeline(LABELS, batch_size=4)
    state = torch.load(io.BytesIO(saved.getvalue()), weights_only=True)
    resumed.load_state_dict(state)
    assert len(taken) == start_step
    assert _equal(list(resumed.train_epoch(start_step)), rest)
    assert _equal(list(resumed.train_epoch()), following)


def test_between_epochs_the_state_is_that_of_the_next(memory_pipeline: MakePipeline) -> None:
    pipeline = memory_pipeline(LABELS)
    list(pipeline.train_epoch())
    state = pipeline.state_dict()
    following = list(pipeline.train_epoch())
    resumed = memory_pipeline(LABELS)
    resumed.load_state_dict(state)
    assert _equal(list(resumed.train_epoch()), following)


def test_a_state_of_other_data_is_refused(memory_pipeline: MakePipeline) -> None:
    state = memory_pipeline(LABELS).state_dict()
    with pytest.raises(DataError, match="train_size 50, this pipeline 40"):
        memory_pipeline(LABELS[:40]).load_state_dict(state)
    with pytest.raises(ValueError, match="1 views, this pipeline 2"):
        memory_pipeline(LABELS, views=2).load_state_dict(state)


def test_batches_depend_on_the_seed_alone(memory_pipeline: MakePipeline) -> None:
    torch.manual_seed(1)
    first = list(memory_pipeline(LABELS, seed=5).train_epoch())
    torch.manual_seed(2)
    pipeline = memory_pipeline(LABELS, seed=5)
    before = torch.get_rng_state()
    list(pipeline.evaluation("test"))
    second = []
    for batch in pipeline.train_epoch():
        torch.rand(3)
        second.append(batch)
    assert _equal(first, second)
    torch.set_rng_state(before)
    list(pipeline.train_epoch())
    assert torch.equal(torch.get_rng_state(), before)
    assert not _equal(first, list(memory_pipeline(LABELS, seed=6).train_epoch()))


def test_views_come_from_the_same_images(memory_pipeline: MakePipeline) -> None:
    single = list(memory_pipeline(LABELS).train_epoch())
    several = list(memory_pipeline(LABELS, views=3).train_epoch())
    for one, three in zip(single, several, strict=True):
        assert isinstance(three.images, tuple)
        assert len(three.images) == 3
        assert torch.equal(one.images, three.images[0])
        assert torch.equal(one.labels, three.labels)
        assert not torch.equal(three.images[1], three.images[0])
        assert not torch.equal(three.images[1], three.images[2])
    plain = next(memory_pipeline(LABELS, views=2, augmentation="none").train_epoch())
    assert torch.equal(plain.images[0], plain.images[1])


def test_the_hold_out_never_trains(memory_pipeline: MakePipeline) -> None:
    pipeline = memory_pipeline(LABELS, holdout=0.2, augmentation="none", seed=3)
    trained = _identities(list(pipeline.train_epoch()))
    held_out = _identities(list(pipeline.evaluation("holdout")))
    assert sorted(trained + held_out) == list(range(50))
    labels = torch.cat([batch.labels for batch in pipeline.evaluation("holdout")])
    assert labels.bincount().tolist() == [2] * 5
    assert _identities(list(pipeline.evaluation("train"))) == sorted(trained)
    assert pipeline.train_size == 40
    other_seed = memory_pipeline(LABELS, holdout=0.2, seed=4)
    assert _identities(list(other_seed.evaluation("holdout"))) == held_out


def test_few_images_train_the_same_ones_for_every_seed(memory_pipeline: MakePipeline) -> None:
    few = {"train_images": 10, "holdout": 0.4, "augmentation": "none"}
    pipelines = [memory_pipeline(LABELS, seed=seed, **few) for seed in (0, 1)]
    first, second = ([*pipeline.train_epoch()] for pipeline in pipelines)
    chosen = sorted(_identities(first))
    assert chosen == sorted(_identities(second))
    assert [number % 5 for number in chosen].count(0) == 2
    assert len(set(chosen)) == pipelines[0].train_size == 10
    assert not set(chosen) & set(_identities(list(pipelines[0].evaluation("holdout"))))
    assert pipelines[0].evaluation_size("holdout") == 20
    assert pipelines[0].evaluation_size("test") == 50
    with pytest.raises(DataError, match="train_images 31: only 30"):
        memory_pipeline(LABELS, holdout=0.4, train_images=31)


def test_evaluation_is_fixed_and_not_augmented(memory_pipeline: MakePipeline) -> None:
    pipeline = memory_pipeline(np.arange(1100) % 5, augmentation="crop_flip", holdout=0.0)
    first, second = (list(pipeline.evaluation("test")) for _ in range(2))
    assert _equal(first, second)
    assert _identities(first) == [number % 256 for number in reversed(range(1100))]
    assert len(first) > 1
    with pytest.raises(DataError, match="holdout split is empty"):
        pipeline.evaluation("holdout")


def test_images_arrive_normalised() -> None:
    with open_pipeline("digits", batch_size=64, seed=0) as pipeline:
        batch = next(pipeline.train_epoch())
        assert batch.images.shape == (64, 1, 16, 16)
        assert (batch.images.dtype, batch.labels.dtype) == (torch.float32, torch.int64)
        images = torch.cat([batch.images for batch in pipeline.evaluation("train")])
    # the constants in digits.py are those of its training images
    assert abs(images.mean()) < 1e-3
    assert abs(images.std() - 1) < 1e-3


def test_digits_are_the_real_ones() -> None:
    from sklearn.datasets import load_digits

    with open_pipeline("digits", batch_size=64, seed=0, image_size=8) as pipeline:
        sets = [list(pipeline.evaluation(split)) for split in ("train", "test")]
        assert (pipeline.train_size, pipeline.num_classes) == (1438, 10)
    images = torch.cat([batch.images for batches in sets for batch in batches])
    labels = torch.cat([batch.labels for batches in sets for batch in batches])
    levels = ((images * 0.3190 + 0.3057) * 16).round().long().view(-1, 64)
    found = {
        (*row, label)
        for row, label in zip(levels.tolist(), labels.tolist(), strict=True)
        for row in [tuple(row)]
    }
    digits = load_digits()
    expected = {
        (*image.astype(int).ravel().tolist(), int(label))
        for image, label in zip(digits.images, digits.target, strict=True)
    }
    assert found == expected
    assert len(labels) == 1797
