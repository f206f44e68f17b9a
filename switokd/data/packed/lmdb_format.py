"""The LMDB that `switokd data pack` writes: one file, encoded images with labels and digests.

Keys `%010d` hold the records 0..N-1; `!about` (JSON: class names, sizes, source) and `!labels`
(int32, N) describe them. While packing, `!progress` says how far it got. A record is

    digest (16 bytes: SHA-256, cut short, of all that follows) | label (u32) | length of name (u16)
    | name (UTF-8, relative path of the source file) | the file's bytes, as they were

little-endian. Records are stored in a fixed random order of the source files, so that a stretch of
neighbours holds a mixture of classes (`block_shuffle`). An epoch then reads near-sequentially.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

# before the records, which are appended: LMDB appends only after the greatest key
ABOUT, LABELS, PROGRESS = b"!about", b"!labels", b"!progress"
FORMAT = "switokd images 1"
DIGEST_BYTES = 16
_HEADER = struct.Struct("<IH")
PAYLOAD = DIGEST_BYTES + _HEADER.size


class Record(NamedTuple):
    """A record taken apart, without copying the image."""

    digest: bytes
    label: int
    name: str
    image: memoryview
    digested: memoryview

    @property
    def intact(self) -> bool:
        """Whether the digest is that of the content."""
        return digest_of(self.digested) == self.digest


def record_key(index: int) -> bytes:
    """Key of a record; keys sort in the order of the numbers."""
    return b"%010d" % index


def digest_of(data: bytes | memoryview) -> bytes:
    """SHA-256, cut to 16 bytes: against accidents, and processors compute it fast."""
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def make_record(label: int, name: str, image: bytes) -> bytes:
    """Put a record together."""
    encoded_name = name.encode()
    digested = b"".join((_HEADER.pack(label, len(encoded_name)), encoded_name, image))
    return digest_of(digested) + digested


def read_record(value: memoryview) -> Record:
    """Take a record apart. Raises ValueError if it is too short to be one."""
    if len(value) < PAYLOAD:
        raise ValueError(f"a record of {len(value)} bytes")
    label, name_length = _HEADER.unpack_from(value, DIGEST_BYTES)
    image_start = PAYLOAD + name_length
    return Record(
        digest=bytes(value[:DIGEST_BYTES]),
        label=label,
        name=bytes(value[PAYLOAD:image_start]).decode(errors="replace"),
        image=value[image_start:],
        digested=value[DIGEST_BYTES:],
    )
