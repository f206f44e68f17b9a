"""`switokd data` as its users meet it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.test_cli import User


@pytest.fixture
def user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> User:
    monkeypatch.chdir(tmp_path)
    return User(tmp_path, capsys)


def test_a_folder_is_packed_and_checked(user: User) -> None:
    folder = user.folder / "pets"
    for number, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for image in range(3):
            colour = (90 * number, 40 * image, 9)
            Image.new("RGB", (12, 10), colour).save(folder / name / f"{image}.jpg")
    assert user.types("data", "pack", "pets", "pets.lmdb") == 0
    assert "6 images of 2 classes" in user.output
    assert user.types("data", "pack", "pets", "pets.lmdb") == 0
    assert "packed before" in user.output
    assert user.types("data", "check", "pets.lmdb") == 0
    assert "6 images of 2 classes, sound" in user.output
    (folder / "dog" / "0.jpg").write_bytes(b"no image")
    assert "0.jpg" in user.is_told("data", "pack", "pets", "other.lmdb")
    assert user.types("data", "pack", "--skip-bad", "pets", "other.lmdb") == 0
    assert "1 damaged images left out" in user.output
    assert user.types("data", "check", "pets") == 1
    assert "0.jpg" in user.output
