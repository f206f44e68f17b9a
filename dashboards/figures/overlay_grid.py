"""Heat maps over their images as an HTML grid: a row per method, teacher beside student.

HTML and not a figure, because it wraps on a narrow window where a figure would shrink.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from dashboards.analysis.explanations import HeatMaps, NetworkMaps, Pictures
from dashboards.figures.heat_maps import COLOUR_MAP, OVERLAY_OPACITY

# as drawn; small images are enlarged pixel by pixel, their maps smoothly
PICTURE_SIDE = 96

STYLE = """
<style>
.maps { container-type: inline-size; }
.maps .line { display: flex; gap: .25rem 1rem; padding: .45rem 0; align-items: center;
  border-top: 1px solid rgba(128, 128, 128, .3); }
.maps .line:first-child { border-top: none; }
.maps .name { flex: 0 0 9rem; font-size: .875rem; overflow-wrap: anywhere; }
.maps .strip { flex: 1; display: flex; flex-wrap: wrap; gap: .35rem .6rem; }
.maps .group { display: flex; gap: 2px; }
.maps .group > * { width: var(--side); text-align: center; font-size: .75rem; line-height: 1.5; }
.maps img { width: var(--side); height: var(--side); display: block; margin: 0 auto;
  border-radius: 2px; }
.maps .said { line-height: 1.2; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  opacity: .75; }
.maps .wrong { color: #C8372D; opacity: 1; }
.maps .blank { height: var(--side); border: 1px dashed rgba(128, 128, 128, .5); }
@container (max-width: 40rem) {
  .maps .line { flex-direction: column; align-items: stretch; }
  .maps .name { flex: none; font-weight: 600; }
}
</style>
"""


def overlay_grid(
    shown: HeatMaps, rows: Mapping[str, Mapping[str, NetworkMaps]], models: Mapping[str, str]
) -> str:
    """The images on top, then a line per row: for each image its networks' overlays.

    `rows` has each row's maps by network; `models` names the cohort's networks, in their order.
    Under each what the network takes the image for, marked where that is wrong. A network that a
    row lacks is a dashed box.
    """
    cells = len(shown.images) * len(models)
    gaps = f"{len(shown.images)} * .65rem"
    side = f"clamp(34px, calc((100cqi - 10.5rem - {gaps}) / {cells} - 2px), 88px)"
    lines = [image_line(shown, list(models))]
    for name, maps in rows.items():
        groups = []
        for at in range(len(shown.images)):
            pictures = [
                cell(shown, at, maps[network], f"{name}, {network} {model}")
                if network in maps
                else '<div class="blank"></div>'
                for network, model in models.items()
            ]
            groups.append("".join(f"<div>{one}</div>" for one in pictures))
        lines.append(line(html.escape(name), groups))
    return f'{STYLE}<div class="maps"><div style="--side: {side}">{"".join(lines)}</div></div>'


def cell(shown: HeatMaps, at: int, own: NetworkMaps, name: str) -> str:
    """One network's overlay of one image, with the class that it predicts."""
    drawn = picture(overlay(shown.images[at], own.maps[at]), name)
    if not own.predicted:
        return drawn
    said = html.escape(own.predicted[at])
    if own.predicted[at] == shown.classes[at]:
        return f'{drawn}<div class="said">{said}</div>'
    return f'{drawn}<div class="said wrong" title="{said}, which is wrong">✗ {said}</div>'


def colour_scale() -> str:
    """The colours of the maps from 0 to 1, as they lie over white."""
    stops = [
        f"rgb({', '.join(str(round(255 * part)) for part in colormaps[COLOUR_MAP](at / 8)[:3])})"
        for at in range(9)
    ]
    return (
        '<div style="display: flex; align-items: center; gap: .5rem; font-size: .75rem">'
        "<span>0: does not count</span>"
        f'<div class="scale" style="flex: 0 1 12rem; height: .7rem; border-radius: 2px; '
        f'background: linear-gradient(to right, {", ".join(stops)})"></div>'
        "<span>1: counts most</span></div>"
    )


def image_line(shown: HeatMaps, names: Sequence[str]) -> str:
    """The images with their classes, and which network stands in which column under them."""
    groups = []
    for image, label in zip(shown.images, shown.classes, strict=True):
        first = picture(as_picture(image), f"image of class {label}")
        under = "".join(f"<span>{network}</span>" for network in names)
        caption = f"<b>{html.escape(label)}</b>"
        width = f"width: calc(var(--side) * {len(names)} + {2 * (len(names) - 1)}px)"
        groups.append(
            f'<div style="{width}">{first}{caption}<div class="group columns">{under}</div></div>'
        )
    return line("image and its class", groups)


def line(name: str, groups: Sequence[str]) -> str:
    strip = "".join(f'<div class="group">{group}</div>' for group in groups)
    return f'<div class="line"><div class="name">{name}</div><div class="strip">{strip}</div></div>'


def overlay(image: Pictures, heat: Pictures) -> Image.Image:
    """The image under the colours of its heat map (both H x W)."""
    drawn = as_picture(image)
    coloured = colormaps[COLOUR_MAP](smooth(heat, drawn.size))[..., :3]
    under = np.asarray(drawn, dtype=np.float64) / 255
    mixed = (1 - OVERLAY_OPACITY) * under + OVERLAY_OPACITY * coloured
    return Image.fromarray(np.rint(255 * mixed).astype(np.uint8))


def as_picture(image: Pictures) -> Image.Image:
    """An image (H, W) or (H, W, 3) in 0 to 1, drawn at about `PICTURE_SIDE` pixels."""
    picture = Image.fromarray(np.rint(255 * image).astype(np.uint8)).convert("RGB")
    scale = PICTURE_SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def smooth(heat: Pictures, size: tuple[int, int]) -> NDArray[np.float64]:
    return np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR), np.float64)


def picture(image: Image.Image, name: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    source = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(name, quote=True)
    return f'<img alt="{text}" title="{text}" src="data:image/png;base64,{source}">'
