"""Faults that show in a file's bytes, for every kind of bad file and no kind of good one."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from switokd.data.images.decode import decode_rgb, decode_rgb_on_gpu
from switokd.data.images.encoded import image_format, jpeg_components, structural_fault
from switokd.validation import DataError

Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def files(photographs: list[Image.Image], encode: Encode) -> dict[str, bytes]:
    """Good and bad image files by name."""
    image, other = (photo.resize((120, 90)) for photo in photographs)
    sixteen = np.arange(64 * 48).reshape(48, 64).astype(np.uint16) * 21
    jpeg, png = encode(image, "JPEG"), encode(image, "PNG")
    gif, webp = encode(image, "GIF"), encode(image, "WEBP")
    small = encode(image.resize((32, 24)), "JPEG")
    with_thumbnail = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + jpeg[2:]
    damaged_png = bytearray(png)
    damaged_png[len(png) // 2] ^= 1
    return {
        "jpeg": jpeg,
        "progressive jpeg": encode(image, "JPEG", progressive=True),
        "grey jpeg": encode(image.convert("L"), "JPEG"),
        "cmyk jpeg": encode(image.convert("CMYK"), "JPEG"),
        "jpeg with a thumbnail": with_thumbnail,
        "jpeg with bytes after its end": jpeg + b"camera maker's notes",
        "png": png,
        "grey png": encode(image.convert("L"), "PNG"),
        "palette png": encode(image.convert("P"), "PNG"),
        "rgba png": encode(image.convert("RGBA"), "PNG"),
        "16-bit png": encode(Image.fromarray(sixteen), "PNG"),
        "gif": gif,
        "webp": webp,
        "no bytes": b"",
        "text": b"this is not an image\n" * 20,
        "half a jpeg": jpeg[: len(jpeg) // 2],
        "jpeg without end": jpeg[:-2],
        "jpeg header": jpeg[:30],
        "half a jpeg with a thumbnail": with_thumbnail[:-500],
        "half a png": png[: len(png) // 2],
        "damaged png": bytes(damaged_png),
        "half a gif": gif[: len(gif) // 2],
        "animated gif": encode(
            image, "GIF", save_all=True, append_images=[other, image], duration=50
        ),
        "half a webp": webp[: len(webp) // 2],
        "animated webp": encode(image, "WEBP", save_all=True, append_images=[other]),
        "animated png": encode(image, "PNG", save_all=True, append_images=[other]),
        "bmp": encode(image, "BMP"),
    }


GOOD = [
    "jpeg",
    "progressive jpeg",
    "grey jpeg",
    "cmyk jpeg",
    "jpeg with a thumbnail",
    "jpeg with bytes after its end",
    "png",
    "grey png",
    "palette png",
    "rgba png",
    "16-bit png",
    "gif",
    "webp",
]
BAD = {
    "no bytes": "the file is empty",
    "text": "not a JPEG, PNG, GIF or WebP",
    "half a jpeg": "truncated JPEG",
    "jpeg without end": "truncated JPEG",
    "jpeg header": "truncated JPEG",
    "half a jpeg with a thumbnail": "truncated JPEG",
    "half a png": "truncated PNG",
    "damaged png": "wrong checksum",
    "half a gif": "truncated GIF",
    "animated gif": "animated GIF of 3 frames",
    "half a webp": "truncated WEBP",
    "animated webp": "animated WebP",
    "animated png": "animated PNG",
    "bmp": "not a JPEG, PNG, GIF or WebP",
}


@pytest.mark.parametrize("name", GOOD)
def test_sound_files_have_no_fault_and_decode(files: dict[str, bytes], name: str) -> None:
    assert structural_fault(files[name]) is None
    image = decode_rgb(memoryview(files[name]), name)
    assert image.dtype == torch.uint8
    assert image.shape == (3, *((48, 64) if name == "16-bit png" else (90, 120)))


@pytest.mark.parametrize(("name", "message"), BAD.items())
def test_faults_are_found_without_decoding(
    files: dict[str, bytes], name: str, message: str
) -> None:
    fault = structural_fault(files[name])
    assert fault is not None
    assert message in fault


@pytest.mark.parametrize("name", sorted(BAD.keys() - {"animated webp"}))
def test_what_is_bad_does_not_decode_either(files: dict[str, bytes], name: str) -> None:
    with pytest.raises(DataError, match=r"^some file: ") as caught:
        decode_rgb(files[name], "some file")
    assert "cpp" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_truncation_of_a_file_is_noticed(files: dict[str, bytes]) -> None:
    for name in ("jpeg", "png", "gif", "webp", "jpeg with a thumbnail"):
        data = files[name]
        for length in range(0, len(data), 37):
            assert structural_fault(data[:length]) is not None, (name, length)


def test_random_bytes_after_a_good_start_do_not_crash(files: dict[str, bytes]) -> None:
    rng = np.random.RandomState(0)
    for name in ("jpeg", "png", "gif", "webp"):
        for _ in range(50):
            data = bytearray(files[name])
            for position in rng.randint(12, len(data), 20):
                data[position] = rng.randint(256)
            fault = structural_fault(bytes(data))
            assert fault is None or isinstance(fault, str)
            try:
                decode_rgb(bytes(data), "damaged")
            except DataError:
                continue


def _png(width: int, height: int, rows: bytes) -> bytes:
    """A grey 8-bit PNG with right checksums around whatever rows."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (zlib.compress(b"\0abcd" * 3), None),
        (zlib.compress(b"\0abcd" * 2), "rows are missing"),
        (zlib.compress(b"\x09abcd" * 3), "rows of an unknown kind"),
        (zlib.compress(b"\0abcd" * 3)[:-6], "do not unpack"),
        (b"no zlib stream", "do not unpack"),
    ],
)
def test_rows_that_would_end_the_process_are_found(rows: bytes, message: str | None) -> None:
    fault = structural_fault(_png(4, 3, rows))
    assert fault == message if message is None else message in str(fault)


def test_interlaced_and_packed_rows_are_understood(
    photographs: list[Image.Image], encode: Encode
) -> None:
    for size in ((1, 1), (3, 5), (9, 2), (64, 33)):
        for mode in ("1", "L", "P", "RGB", "RGBA"):
            image = photographs[0].resize(size).convert(mode)
            assert structural_fault(encode(image, "PNG")) is None
    # 5 x 3, interlaced: passes of 1x1, 1x1, 2x0, 1x... rows, each row one byte of filter first
    sizes = [(1, 1), (1, 1), (2, 0), (1, 1), (3, 1), (2, 2), (5, 1)]
    rows = b"".join((b"\0" + b"g" * width) * height for width, height in sizes)
    interlaced = bytearray(_png(5, 3, zlib.compress(rows)))
    interlaced[28] = 1
    interlaced[29:33] = struct.pack(">I", zlib.crc32(interlaced[12:29]))
    assert structural_fault(bytes(interlaced)) is None
    assert (decode_rgb(bytes(interlaced), "interlaced") == ord("g")).all()


def test_absurd_sizes_are_refused_before_memory_is_asked_for(files: dict[str, bytes]) -> None:
    assert "pixels" in str(structural_fault(_png(100_000, 100_000, zlib.compress(b""))))
    jpeg = bytearray(files["jpeg"])
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    assert "65535 x 65535 pixels" in str(structural_fault(bytes(jpeg)))


@pytest.mark.parametrize("name", ["grey jpeg", "cmyk jpeg", "grey png", "palette png"])
def test_colours_are_those_of_pillow(files: dict[str, bytes], name: str) -> None:
    with Image.open(io.BytesIO(files[name])) as image:
        expected = np.asarray(image.convert("RGB")).astype(int)
    ours = decode_rgb(files[name], name).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(ours - expected).max() <= 1


def test_sixteen_bits_keep_their_high_byte(files: dict[str, bytes]) -> None:
    expected = (np.arange(64 * 48).reshape(48, 64) * 21 % 65536) >> 8
    ours = decode_rgb(files["16-bit png"], "16-bit")
    assert np.array_equal(ours.numpy(), np.broadcast_to(expected, (3, 48, 64)))


def test_formats_are_told_by_content(files: dict[str, bytes]) -> None:
    assert image_format(files["cmyk jpeg"]) == "jpeg"
    assert image_format(files["text"]) is None
    assert [jpeg_components(files[name]) for name in ("grey jpeg", "jpeg", "cmyk jpeg")] == [
        1,
        3,
        4,
    ]
    assert jpeg_components(files["jpeg header"]) is None


def test_on_a_gpu_only_plain_jpegs_go_to_nvjpeg(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from switokd.data.images import decode

    calls: list[int] = []

    def nvjpeg(data: list[torch.Tensor], mode: object, device: object) -> list[torch.Tensor]:
        calls.append(len(data))
        return [torch.full((3, 2, 2), 7, dtype=torch.uint8) for _ in data]

    monkeypatch.setattr(decode, "decode_jpeg", nvjpeg)
    names = ["jpeg", "cmyk jpeg", "png", "grey jpeg"]
    images = decode_rgb_on_gpu([files[n] for n in names], names, torch.device("cpu"))
    assert calls == [2]
    assert [tuple(image.shape) for image in images] == [(3, 2, 2), (3, 90, 120)] * 1 + [
        (3, 90, 120),
        (3, 2, 2),
    ]


def test_what_nvjpeg_refuses_the_cpu_names(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from switokd.data.images import decode

    def nvjpeg(*arguments: object, **options: object) -> list[torch.Tensor]:
        raise RuntimeError("nvjpegDecode failed: 2")

    monkeypatch.setattr(decode, "decode_jpeg", nvjpeg)
    with pytest.raises(DataError, match=r"^the second: does not decode: .*truncated"):
        decode_rgb_on_gpu(
            [files["jpeg"], files["half a jpeg"]], ["the first", "the second"], torch.device("cpu")
        )
