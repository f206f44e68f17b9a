"""Encoded image bytes to uint8 RGB tensors, by torchvision's decoders; on a GPU by nvJPEG.

Grey, palette, CMYK, transparent and 16-bit images all become 8-bit RGB (16-bit: the high byte).
EXIF rotation is not applied, as in torchvision's ImageFolder.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image, decode_jpeg

from switokd.data.images.encoded import image_format, jpeg_components
from switokd.data.images.png_structure import png_fault
from switokd.validation import DataError

log = logging.getLogger(__name__)

Buffer = bytes | memoryview


class _Bytes:
    """Bytes as NumPy sees them: called writable, since torch warns of tensors that are not. The
    decoders only read, and a copy would cost the zero-copy read."""

    def __init__(self, data: Buffer) -> None:
        address = np.frombuffer(data, np.uint8).ctypes.data
        self.__array_interface__ = {
            "data": (address, False),
            "shape": (len(data),),
            "typestr": "|u1",
            "version": 3,
        }


def decode_rgb(data: Buffer, where: str) -> Tensor:
    """One image, uint8 (3, H, W), on the CPU. `where` names it in the DataError if it is damaged.

    Takes read-only buffers without a copy; they must stay valid during the call.
    """
    if len(data) == 0:
        raise DataError(f"{where}: the file is empty")
    _refuse_damaged_png(data, where)
    try:
        image = decode_image(_as_tensor(data), mode=ImageReadMode.RGB)
    except RuntimeError as error:
        raise DataError(f"{where}: does not decode: {_reason(error)}") from error
    if image.ndim != 3:
        raise DataError(f"{where}: an animation of {len(image)} frames, not one image")
    if image.dtype == torch.uint16:
        image = (image.to(torch.int32) >> 8).to(torch.uint8)
    return image


def decode_rgb_on_gpu(
    data: Sequence[Buffer], where: Sequence[str], device: torch.device
) -> list[Tensor]:
    """A batch of images, each uint8 (3, H, W) on the device; JPEGs by one nvJPEG call.

    What nvJPEG does not take (other formats, CMYK) or refuses is decoded on the CPU, which also
    names the damaged image in the DataError.
    """
    fit = [i for i, item in enumerate(data) if _nvjpeg_takes(item)]
    images: dict[int, Tensor] = {}
    if fit:
        try:
            decoded = decode_jpeg(
                [_as_tensor(data[i]) for i in fit], mode=ImageReadMode.RGB, device=device
            )
            images = dict(zip(fit, decoded, strict=True))
        except RuntimeError as error:
            log.warning("nvJPEG refused a batch (%s); decoding it on the CPU", _reason(error))
    return [
        images[i] if i in images else decode_rgb(data[i], where[i]).to(device)
        for i in range(len(data))
    ]


def _refuse_damaged_png(data: Buffer, where: str) -> None:
    if image_format(data) != "png":
        return
    try:
        fault = png_fault(data, rows=False)
    except (struct.error, IndexError):
        fault = "truncated PNG"
    if fault:
        raise DataError(f"{where}: {fault}")


def _nvjpeg_takes(data: Buffer) -> bool:
    return image_format(data) == "jpeg" and jpeg_components(data) in (1, 3)


def _as_tensor(data: Buffer) -> Tensor:
    """The bytes without a copy, valid as long as `data` is."""
    return torch.from_numpy(np.asarray(_Bytes(data)))


def _reason(error: RuntimeError) -> str:
    """The decoder's own words, without the source file and line before them."""
    return str(error).splitlines()[0].rpartition("cpp:")[2].partition(", ")[2] or str(error)
