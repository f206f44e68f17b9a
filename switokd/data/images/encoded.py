"""What can be told of an image file from its bytes alone, without decoding: fast enough to do for
every file that is packed (a few thousand a second; decoding manages a few hundred)."""

from __future__ import annotations

import struct

from switokd.data.images.png_structure import START as PNG_START
from switokd.data.images.png_structure import png_fault, png_size

JPEG_START, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
START_OF_SCAN = 0xDA
# a damaged header can ask for more memory than there is
MOST_PIXELS = 200_000_000
# SOF0..SOF15 without DHT (C4), JPG (C8) and DAC (CC)
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# markers that stand alone, without a length
STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


def image_format(data: bytes | memoryview) -> str | None:
    """The format by the first bytes, whatever the file is called: jpeg, png, gif, webp or None."""
    head = bytes(data[:12])
    if head.startswith(JPEG_START):
        return "jpeg"
    if head.startswith(PNG_START):
        return "png"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "webp"
    return None


def structural_fault(data: bytes) -> str | None:
    """Why these bytes cannot be one whole still image, or None if their structure is sound.

    Finds empty files, other formats, truncation and animations; a PNG's rows are unpacked.
    Damage inside JPEG's compressed data is found by decoding alone (`switokd data check`), if at
    all: JPEG carries no checksum. From packing on, each record's digest guards against it.
    """
    if not data:
        return "the file is empty"
    name = image_format(data)
    if name is None:
        return f"not a JPEG, PNG, GIF or WebP image (it starts with {data[:8]!r})"
    try:
        return _CHECKS[name](data)
    except (struct.error, IndexError):
        return f"truncated {name.upper()}"


def jpeg_components(data: bytes | memoryview) -> int | None:
    """Number of colour components of a JPEG (1 grey, 3 colour, 4 CMYK); None if it states none."""
    position = 2
    while position + 10 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker in START_OF_FRAME:
            return data[position + 9]
        if marker == START_OF_SCAN:
            return None
        position += _marker_length(data, position)
    return None


def image_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Height and width in pixels from a file's first bytes; None where they do not tell."""
    head = bytes(data)
    try:
        match image_format(head):
            case "png":
                return png_size(head)
            case "gif":
                width, height = struct.unpack_from("<HH", head, 6)
                return height, width
            case "jpeg":
                return _jpeg_size(head)
            case _:
                return None
    except (struct.error, IndexError):
        return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position = 2
    while data[position] == 0xFF and data[position + 1] != START_OF_SCAN:
        if data[position + 1] in START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return height, width
        position += _marker_length(data, position)
    return None


def _marker_length(data: bytes | memoryview, position: int) -> int:
    marker = data[position + 1]
    if marker == 0xFF:  # fill byte
        return 1
    if marker in STANDALONE:
        return 2
    return 2 + int(struct.unpack_from(">H", data, position + 2)[0])


def _size_fault(height: int, width: int) -> str | None:
    if 0 < height * width <= MOST_PIXELS:
        return None
    return f"an image of {width} x {height} pixels: damaged header?"


def _jpeg_fault(data: bytes) -> str | None:
    position, frame = 2, 0
    while data[position] == 0xFF and data[position + 1] != START_OF_SCAN:
        if data[position + 1] in START_OF_FRAME:
            frame = position
        position += _marker_length(data, position)
    if data[position] != 0xFF or not frame:
        return "damaged JPEG: no image where its header says one is"
    fault = _size_fault(*struct.unpack_from(">HH", data, frame + 5))
    if fault:
        return fault
    # thumbnails have an end marker of their own, but before the scan
    return None if data.rfind(JPEG_END) > position else "truncated JPEG: no end marker"


def _png_fault(data: bytes) -> str | None:
    return _size_fault(*png_size(data)) or png_fault(data, rows=True)


def _gif_fault(data: bytes) -> str | None:
    frames, position = 0, 13 + _colour_table_bytes(data[10])
    while data[position] != 0x3B:
        if data[position] == 0x2C:
            frames += 1
            position += 11 + _colour_table_bytes(data[position + 9])
        elif data[position] == 0x21:
            position += 2
        else:
            return "damaged GIF: unknown block"
        while data[position]:
            position += 1 + data[position]
        position += 1
    if frames == 1:
        return None
    return f"animated GIF of {frames} frames: one still image per file is needed"


def _colour_table_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp_fault(data: bytes) -> str | None:
    (size,) = struct.unpack_from("<I", data, 4)
    if len(data) < 8 + size:
        return "truncated WEBP"
    if data[12:16] == b"VP8X" and data[20] & 0x02:
        return "animated WebP: one still image per file is needed"
    return None


_CHECKS = {"jpeg": _jpeg_fault, "png": _png_fault, "gif": _gif_fault, "webp": _webp_fault}
