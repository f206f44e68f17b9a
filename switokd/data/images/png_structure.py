"""Whether a PNG is whole, without drawing it.

torchvision's PNG decoder ends the whole process, not the call, when compressed rows are damaged, so
no PNG reaches it whose checksums are wrong; before packing or training, the compressed rows are
unpacked as well (zlib verifies them).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

START = b"\x89PNG\r\n\x1a\n"
SAMPLES_PER_PIXEL = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
INTERLACED = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2))
HIGHEST_FILTER = 4


def png_fault(data: bytes | memoryview, *, rows: bool) -> str | None:
    """Why this PNG is not one whole still image, or None. `rows`: unpack the compressed rows too.

    Raises struct.error or IndexError if it is cut off in the middle of a chunk's header.
    """
    position = len(START)
    compressed: list[bytes | memoryview] = []
    header = b""
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        content, end = position + 8, position + 8 + length
        (stated,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(data[position + 4 : end]) != stated:
            return f"damaged PNG: wrong checksum of its {kind.decode('latin1')} chunk"
        if kind == b"IHDR":
            header = bytes(data[content:end])
        elif kind == b"IDAT":
            compressed.append(data[content:end])
        elif kind == b"acTL":
            return "animated PNG: one still image per file is needed"
        elif kind == b"IEND":
            return _rows_fault(header, compressed) if rows else None
        position = end + 4


def png_size(data: bytes | memoryview) -> tuple[int, int]:
    """Height and width that the header states."""
    width, height = struct.unpack_from(">II", data, len(START) + 8)
    return height, width


def _rows_fault(header: bytes, compressed: list[bytes | memoryview]) -> str | None:
    try:
        pixels = zlib.decompress(b"".join(compressed))
    except zlib.error as error:
        return f"damaged PNG: its rows do not unpack ({error})"
    start = 0
    for height, row_bytes in _passes(header):
        end = start + height * (1 + row_bytes)
        if len(pixels) < end:
            return "damaged PNG: rows are missing"
        if max(pixels[start : end : 1 + row_bytes], default=0) > HIGHEST_FILTER:
            return "damaged PNG: rows of an unknown kind"
        start = end
    return None


def _passes(header: bytes) -> Iterator[tuple[int, int]]:
    """(rows, bytes in a row) of the whole image, or of each pass of an interlaced one."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * SAMPLES_PER_PIXEL.get(colour, 0)
    grids = (*INTERLACED, (0, 1, 1, 2)) if interlaced else ((0, 0, 1, 1),)
    for left, top, step_x, step_y in grids:
        columns, rows = -((left - width) // step_x), -((top - height) // step_y)
        if columns > 0 and rows > 0:
            yield rows, (columns * bits + 7) // 8
