"""A user's images are known by what they are, and not by where they lie."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from switokd.data import open_pipeline
from switokd.data.fingerprint import LOOKED_AT, fingerprint
from switokd.data.packed.lmdb_pack import pack
from switokd.data.source import DataOrigin
from switokd.validation import DataError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "here" / "images"
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(4):
            pixels = np.full((8, 8, 3), 20 * number + len(label), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def test_a_copy_elsewhere_is_the_same(images: Path, tmp_path: Path) -> None:
    there = shutil.copytree(images, tmp_path / "there", copy_function=shutil.copyfile)
    assert fingerprint(there) == fingerprint(images)
    # what no reader reads
    (there / "README").write_text("cats and dogs")
    (there / "cat" / ".hidden.png").write_bytes(b"x")
    assert fingerprint(there) == fingerprint(images)


def test_what_a_reader_would_see_is_another(images: Path) -> None:
    found = [fingerprint(images)]
    (images / "cat" / "3.png").rename(images / "dog" / "4.png")
    found.append(fingerprint(images))
    (images / "dog" / "4.png").unlink()
    found.append(fingerprint(images))
    content = bytearray((images / "dog" / "0.png").read_bytes())
    content[-20] ^= 1
    (images / "dog" / "0.png").write_bytes(content)
    found.append(fingerprint(images))
    (images / "bird").mkdir()
    shutil.copyfile(images / "cat" / "0.png", images / "bird" / "0.png")
    found.append(fingerprint(images))
    assert len(set(found)) == len(found)


def test_of_many_images_some_are_looked_into(tmp_path: Path) -> None:
    folder = tmp_path / "many" / "a"
    folder.mkdir(parents=True)
    count = 3 * LOOKED_AT
    for number in range(count):
        (folder / f"{number:04}.png").write_bytes(b"same size")
    known = fingerprint(folder.parent)
    seen = 0
    for number in range(0, count, 8):
        file = folder / f"{number:04}.png"
        file.write_bytes(b"same SIZE")
        seen += fingerprint(folder.parent) != known
        file.write_bytes(b"same size")
    assert seen == count / 24
    # a changed size is seen of any
    (folder / "0001.png").write_bytes(b"another size")
    assert fingerprint(folder.parent) != known


def test_a_packed_set_is_its_records(images: Path, tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{number}.lmdb" for number in range(3))
    for packed in (first, second):
        pack(images, packed)
    assert fingerprint(first) == fingerprint(second)
    # its images come in another order than a folder's, so that it trains other networks
    assert fingerprint(first) != fingerprint(images)
    pixels = np.full((8, 8, 3), 99, np.uint8)
    Image.fromarray(pixels).save(images / "cat" / "0.png")
    pack(images, third)
    assert fingerprint(third) != fingerprint(first)
    splits = tmp_path / "splits"
    splits.mkdir()
    shutil.copyfile(first, splits / "train.lmdb")
    shutil.copyfile(second, splits / "val.lmdb")
    known = fingerprint(splits)
    shutil.copyfile(third, splits / "val.lmdb")
    assert fingerprint(splits) != known


def test_other_images_than_the_trials_are_refused(images: Path) -> None:
    origin = DataOrigin(digest=fingerprint(images))
    with open_pipeline("image_folder", batch_size=2, seed=0, path=images, origin=origin):
        pass
    shutil.copyfile(images / "cat" / "0.png", images / "cat" / "9.png")
    with pytest.raises(DataError, match=f"their digest was {origin.digest}, and is"):
        open_pipeline("image_folder", batch_size=2, seed=0, path=images, origin=origin)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none: cannot be read: No such file"):
        fingerprint(tmp_path / "none")
