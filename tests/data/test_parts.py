"""A batch that several processes share: together their parts are the batch that one makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from switokd.data import open_pipeline
from switokd.data.batches.pipeline import Pipeline
from switokd.data.parts import Part
from switokd.validation import DataError

OpenPart = Callable[[Part], Pipeline]


@given(total=st.integers(0, 1000), count=st.integers(1, 40))
def test_parts_are_neighbours_that_cover_a_batch_and_differ_by_one_at_most(
    total: int, count: int
) -> None:
    parts = [Part(index, count).of(range(total)) for index in range(count)]
    assert [image for part in parts for image in part] == list(range(total))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("part", "images", "told"),
    [
        (Part(0, 1), 21, None),
        (Part(0, 1), 1, "1 training images are too few for 1 processes"),
        (Part(1, 4), 23, None),
        (Part(1, 4), 7, "7 training images are too few for 4 processes"),
        (Part(1, 4), 8, None),
        # one image: nobody trains on it
        (Part(1, 4, True), 21, None),
        # two or three: a process alone would train on them
        (Part(1, 4, True), 22, "an epoch's last batch has 2 images, too few for 4 processes"),
        (Part(1, 4, True), 23, "an epoch's last batch has 3 images, too few for 4 processes"),
        (Part(1, 4, True), 24, None),
    ],
)
def test_why_an_epoch_cannot_be_divided(part: Part, images: int, told: str | None) -> None:
    assert part.problem(images, 10) == told


def test_a_data_set_that_cannot_be_divided_is_refused() -> None:
    settings: dict[str, Any] = {"batch_size": 64, "seed": 0, "train_images": 130}
    open_pipeline("digits", **settings, part=Part(0, 2, True)).close()
    with pytest.raises(DataError) as raised:
        open_pipeline("digits", **settings, part=Part(0, 3, True))
    told = "an epoch's last batch has 2 images, too few for 3 processes"
    assert str(raised.value) == f"digits: {told}"


def test_shared_batch_norms_take_the_steps_of_one_process(
    memory_pipeline: Callable[..., Pipeline],
) -> None:
    labels = np.arange(24) % 3
    steps = [
        memory_pipeline(labels, batch_size=10, part=part).steps_per_epoch
        for part in (Part(), Part(0, 3, True), Part(0, 3))
    ]
    assert steps == [3, 3, 2]


@pytest.fixture(params=["in memory", "streamed"])
def open_part(request: pytest.FixtureRequest, tmp_path: Path) -> OpenPart:
    if request.param == "in memory":
        memory_pipeline = request.getfixturevalue("memory_pipeline")
        labels = np.arange(53) % 5
        return lambda part: memory_pipeline(
            labels, batch_size=10, augmentation="crop_flip", views=2, part=part
        )
    path = request.getfixturevalue("class_folder")(tmp_path / "train", classes=3, images=8)
    request.getfixturevalue("class_folder")(tmp_path / "val", classes=3, images=2)
    return lambda part: open_pipeline(
        "image_folder",
        path=path.parent,
        batch_size=10,
        seed=3,
        image_size=16,
        views=2,
        part=part,
    )


def images_of(batches: list) -> list[tuple[Tensor, ...]]:
    return [(*batch.images, batch.labels, batch.indices) for batch in batches]


@pytest.mark.parametrize(("count", "start_step"), [(2, 0), (3, 0), (2, 1)])
def test_each_part_has_its_images_of_the_whole_batch_as_they_are_there(
    count: int, start_step: int, open_part: OpenPart
) -> None:
    with open_part(Part()) as pipeline:
        whole = images_of(list(pipeline.train_epoch(start_step)))
        sizes = [pipeline.images_of_step(step) for step in range(pipeline.steps_per_epoch)]
    found = []
    for index in range(count):
        with open_part(Part(index, count)) as pipeline:
            steps = pipeline.steps_per_epoch
            found.append(images_of(list(pipeline.train_epoch(start_step))))
    # a batch that would leave one image for somebody is left out
    trained = [step for step in range(len(sizes)) if sizes[step] >= 2 * count]
    assert steps == len(trained)
    for step, of_whole in enumerate(whole[: steps - start_step]):
        parts = [of_part[step] for of_part in found]
        for quantity, expected in enumerate(of_whole):
            assert torch.equal(torch.cat([part[quantity] for part in parts]), expected)
