"""Data sets that a user's callable gives: read once, whatever the form, or refused with words."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from switokd.data import describe, open_pipeline
from switokd.data.source import DataOrigin
from switokd.user_modules import source_of
from switokd.validation import DataError, SpecError
from tests.conftest import UserModule

Make = Callable[..., tuple[str, DataOrigin]]

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3), np.uint8)
LABELS = [0, 1, 2] * 4
# the items of a list are images with labels: it is a map-style data set as it is
FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "uint8 arrays, channels last": lambda image: image,
    "floats from 0 to 1": lambda image: image / 255,
    "floats that are a little off": lambda image: image / 255 * 0.9999,
    "tensors, channels first": lambda image: torch.tensor(image).permute(2, 0, 1),
    "float tensors": lambda image: torch.tensor(image).permute(2, 0, 1).float() / 255,
    "Pillow images": Image.fromarray,
    "Pillow images with a palette": lambda image: Image.fromarray(image).convert("RGBA"),
}


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITOKD_DATA", str(tmp_path / "data"))


@pytest.fixture
def given(user_module: UserModule, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A user's callable that gives what a test says, and its address and origin."""

    def write(made: Any, **arguments: Any) -> tuple[str, DataOrigin]:
        name = user_module("MADE = []\n\ndef make(**arguments):\n    return MADE.pop()\n")
        import brought  # type: ignore[import-not-found]

        brought.MADE.append(made)
        return f"{name}:make", DataOrigin(arguments, source=source_of(name))

    return write


def items(convert: Callable[[np.ndarray], Any], labels: Any = LABELS) -> list[tuple[Any, Any]]:
    return [(convert(image), label) for image, label in zip(PIXELS, labels, strict=True)]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images(form: str, given: Make) -> None:
    train = items(FORMS[form])
    address, origin = given((train, train[:3]))
    with open_pipeline(address, batch_size=12, seed=0, origin=origin) as data:
        assert (data.num_classes, data.train_size) == (3, 12)
        images, labels, _ = next(iter(data.evaluation("train")))
        assert data.evaluation_size("test") == 3
    source = describe(address, origin)
    back = (
        images * torch.tensor(source.std)[:, None, None] + torch.tensor(source.mean)[:, None, None]
    )
    assert (back * 255).round().byte().permute(0, 2, 3, 1).numpy().tolist() == PIXELS.tolist()
    assert labels.tolist() == LABELS
    assert source.mean == pytest.approx(PIXELS.mean(axis=(0, 1, 2)) / 255, abs=1e-4)
    assert source.std == pytest.approx(PIXELS.std(axis=(0, 1, 2)) / 255, abs=1e-4)
    assert source.image_size == 6


def test_it_is_read_once_and_again_with_other_code_or_arguments(
    user_module: UserModule, tmp_path: Path
) -> None:
    text = """
    from pathlib import Path
    import numpy as np

    def make(shade=100):
        log = Path({log!r})
        log.write_text(log.read_text() + "read ")
        data = [(np.full((4, 4), shade + label, np.uint8), label) for label in (0, 1)]
        return data, data
    """
    log = tmp_path / "log"
    log.write_text("")

    def digest(code: str = text, **arguments: Any) -> str:
        name = user_module(textwrap.dedent(code).format(log=str(log)))
        with pytest.MonkeyPatch.context() as patch:
            # as another process would have it
            patch.setattr("switokd.user_modules._imported", {})
            patch.delitem("sys.modules", name, raising=False)
            found = describe(f"{name}:make", DataOrigin(arguments, source=source_of(name))).digest
        assert found is not None
        return found

    first = digest()
    assert digest() == first
    assert log.read_text().split() == ["read"]
    assert digest(shade=3) != first
    assert digest() == digest(text + "    # the same images") == first
    assert log.read_text().split() == ["read"] * 3


def test_other_images_than_the_trials_are_refused(given: Make) -> None:
    address, origin = given((items(FORMS["floats from 0 to 1"]),) * 2)
    known = describe(address, origin).digest
    assert known is not None
    for digest in (known, "0" * 16):
        said = DataOrigin(origin.arguments, source=origin.source, digest=digest)
        if digest == known:
            open_pipeline(address, batch_size=4, seed=0, origin=said).close()
        else:
            with pytest.raises(DataError, match=f"was 0000000000000000, and is {known}"):
                open_pipeline(address, batch_size=4, seed=0, origin=said)


def test_a_damaged_copy_is_made_again(given: Make, tmp_path: Path) -> None:
    data = items(FORMS["tensors, channels first"])
    address, origin = given((data, data))
    known = describe(address, origin).digest
    (copy,) = (tmp_path / "data" / ".own").glob("*/train_images.npy")
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    given((data, data))
    assert describe(address, origin).digest == known
    assert copy.read_bytes() != content


GOOD = items(FORMS["uint8 arrays, channels last"])


class Named(list[Any]):
    classes = ("only", "two")


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (GOOD, "must give a training and a test set (found list)"),
        ((GOOD, iter(GOOD)), "its test set must have a length, and items by number: TypeError"),
        ((GOOD, set(LABELS)), "its test set must have items by number (found set)"),
        ((GOOD, GOOD[:1]), "its test set must have at least 2 images (found 1)"),
        (([*GOOD, PIXELS[0]], GOOD), "its training set, image 12, is no (image, label)"),
        (([*GOOD, (PIXELS[0][:4, :4], 1)], GOOD), "image 12, is 4 x 4 with 3 channels, others are"),
        (
            (GOOD, [(PIXELS[0][..., 0], 1)] * 2),
            "test set, image 0, is 6 x 6 with 1 channel, others",
        ),
        (([(PIXELS[0][:4], 0)] * 2, GOOD), "image 0, must be square (found 4 x 6 with 3 channels)"),
        (([(PIXELS[0][..., :2], 0)] * 2, GOOD), "must be grey or of three channels (found ndarray"),
        (
            ([(PIXELS[0] / 255 - 1, 0)] * 2, GOOD),
            "must be uint8, or floats from 0 to 1 (found float",
        ),
        (([(np.full((6, 6), np.nan), 0)] * 2, GOOD), "floats from 0 to 1 (found float64 from nan"),
        (([(PIXELS[0] > 9, 0)] * 2, GOOD), "must be uint8, or floats from 0 to 1 (found bool)"),
        (([(PIXELS[0][:0], 0)] * 2, GOOD), "must be grey or of three channels (found ndarray"),
        (([("a.png", 0)] * 2, GOOD), "must be grey or of three channels (found str of shape ()"),
        (([(torch.ones(3, 6, 6, requires_grad=True), 0)] * 2, GOOD), "image 0, cannot be read: Ru"),
        (([(PIXELS[0], 1.5)] * 2, GOOD), "image 0, has label 1.5, which is no whole number"),
        (([(PIXELS[0], -1)] * 2, GOOD), "image 0, has label -1, which is no whole number"),
        (([(PIXELS[0], "cat")] * 2, GOOD), "image 0, has label 'cat', which is no whole number"),
        ((Named(GOOD), GOOD), "its training set, image 2, has label 2, of 2 classes"),
        (([(PIXELS[0], 0)] * 2,) * 2, "must have at least two classes (found ['0'])"),
    ],
)
def test_what_is_no_data_set_is_said(made: Any, told: str, given: Make) -> None:
    address, origin = given(made)
    with pytest.raises(SpecError) as raised:
        describe(address, origin)
    assert str(raised.value).startswith("brought:make: ")
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("code", "arguments", "told"),
    [
        ("def make(): raise OSError('no disk')", {}, "brought:make() fails: OSError: no disk"),
        ("def make(size): pass", {}, "missing a required argument: 'size'"),
        ("def make(): pass", {"size": 3}, "got an unexpected keyword argument 'size'"),
        ("def made(): pass", {}, "has no 'make'; did you mean 'made'?"),
        ("make = 3", {}, "must be a callable (found int)"),
    ],
)
def test_a_callable_that_does_not_is_said(
    code: str, arguments: dict[str, Any], told: str, user_module: UserModule
) -> None:
    name = user_module(code)
    with pytest.raises(SpecError) as raised:
        describe(f"{name}:make", DataOrigin(arguments, source=source_of(name)))
    assert told in str(raised.value)
