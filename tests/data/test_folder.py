"""Class folders: how they are listed, and the odd ones that are refused by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from switokd.data.images.folder import list_folder
from switokd.validation import DataError

ClassFolder = Callable[..., Path]


def test_classes_and_labels_are_those_of_torchvision(
    tmp_path: Path, class_folder: ClassFolder
) -> None:
    folder = class_folder(tmp_path / "images", classes=3, images=4)
    (folder / "class1" / "deeper").mkdir()
    (folder / "class1" / "0.jpg").rename(folder / "class1" / "deeper" / "0.JPEG")
    (folder / "class1" / "notes.txt").write_text("not an image")
    (folder / "class1" / "._1.jpg").write_text("left by another system")
    theirs = ImageFolder(str(folder))
    (folder / ".hidden").mkdir()
    listing = list_folder(folder)
    ours = {
        (str(folder / name), label)
        for name, label in zip(listing.files, listing.labels.tolist(), strict=True)
    }
    expected = {(path, label) for path, label in theirs.samples if "._" not in path}
    assert ours == expected
    assert list(listing.class_names) == theirs.classes
    assert listing.ignored == 2
    assert listing.sizes.sum() == sum(os.path.getsize(path) for path, _ in expected)  # noqa: PTH202


def test_the_fingerprint_tells_contents_apart(tmp_path: Path, class_folder: ClassFolder) -> None:
    folder = class_folder(tmp_path / "images")
    before = list_folder(folder).fingerprint
    assert list_folder(folder).fingerprint == before
    os.utime(folder / "class0" / "0.jpg", (1, 1))
    touched = list_folder(folder).fingerprint
    (folder / "class0" / "1.jpg").rename(folder / "class0" / "x.jpg")
    assert len({before, touched, list_folder(folder).fingerprint}) == 3


def test_names_may_be_unicode_and_long(tmp_path: Path, class_folder: ClassFolder) -> None:
    folder = class_folder(tmp_path / "images", classes=1)
    name = "鳥 und Vögel 🐦 " + "x" * 200
    (folder / "class0").rename(folder / name)
    long_file = folder / name / ("é" * 120 + ".jpg")
    (folder / name / "0.jpg").rename(long_file)
    listing = list_folder(folder)
    assert listing.class_names == (name,)
    assert f"{name}/{long_file.name}" in listing.files


def test_classes_that_differ_by_case_are_refused(tmp_path: Path, class_folder: ClassFolder) -> None:
    folder = class_folder(tmp_path / "images", classes=2)
    (folder / "class0").rename(folder / "Bird")
    (folder / "class1").rename(folder / "bird")
    with pytest.raises(DataError, match="'Bird' and 'bird' differ only by case"):
        list_folder(folder)
    (folder / "Bird").rename(folder / "Vo\u0308gel")
    (folder / "bird").rename(folder / "V\u00f6gel")
    with pytest.raises(DataError, match="Unicode form"):
        list_folder(folder)


def test_a_class_without_images_is_refused(tmp_path: Path, class_folder: ClassFolder) -> None:
    folder = class_folder(tmp_path / "images")
    (folder / "empty").mkdir()
    (folder / "empty" / "readme.txt").write_text("none here")
    with pytest.raises(DataError, match=r"empty: a class folder with no image .*1 of 4 classes"):
        list_folder(folder)
    listing = list_folder(folder, allow_empty=True)
    assert listing.class_names == ("class0", "class1", "class2", "empty")
    assert listing.empty_classes == ("empty",)


@pytest.mark.parametrize("suffix", [".bmp", ".TIFF"])
def test_formats_without_a_decoder_are_named(
    tmp_path: Path, class_folder: ClassFolder, suffix: str
) -> None:
    folder = class_folder(tmp_path / "images")
    (folder / "class1" / f"scan{suffix}").write_bytes(b"x")
    with pytest.raises(DataError, match=f"scan{suffix}: {suffix.lower()} images are not supported"):
        list_folder(folder)


def test_what_is_no_class_folder_tree_is_refused(tmp_path: Path, class_folder: ClassFolder) -> None:
    with pytest.raises(DataError, match="absent is not there"):
        list_folder(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="file is a file"):
        list_folder(tmp_path / "file")
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "image.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no class folders in it \(1 other entries\)"):
        list_folder(flat)
    splits = tmp_path / "splits"
    for name in ("train", "val"):
        class_folder(splits / name)
    with pytest.raises(DataError, match=r"holds the splits .* not classes: name one"):
        list_folder(splits)


def test_a_broken_link_is_named(tmp_path: Path, class_folder: ClassFolder) -> None:
    folder = class_folder(tmp_path / "images")
    (folder / "class0" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(DataError, match=r"gone\.jpg: neither a file nor a folder"):
        list_folder(folder)


def test_a_name_that_is_not_unicode_is_named(tmp_path: Path, class_folder: ClassFolder) -> None:
    folder = class_folder(tmp_path / "images")
    try:
        (folder / "class0" / "0.jpg").rename(folder / "class0" / os.fsdecode(b"\xff.jpg"))
    except OSError:
        pytest.skip("this file system takes only Unicode names")
    with pytest.raises(DataError, match=r"\\xff\.jpg'.*not valid Unicode"):
        list_folder(folder)
