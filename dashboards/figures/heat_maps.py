"""Grad-CAM drawn: overlays and 3-D surfaces, teacher beside student, as PNG and as HTML."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from mpl_toolkits.mplot3d import Axes3D
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from dashboards.figures.theme import GRID, SEQUENTIAL

COLOUR_MAP = "cividis"
OVERLAY_OPACITY = 0.55
CELL_INCHES = 1.5
# a prediction that is not the true class
WRONG = "#C8372D"
# each takes a WebGL context, of which browsers keep no more
MOST_SCENES = 16

Images = NDArray[np.float32]
Maps = Mapping[str, NDArray[np.float32]]


def overlay_figure(
    images: Images,
    maps: Maps,
    names: Mapping[str, str],
    classes: Sequence[str],
    predicted: Mapping[str, Sequence[str]],
) -> Figure:
    """One column per image; the image, then for each network its overlay and its surface.

    `images` are (N, H, W) or (N, H, W, 3) in 0 to 1; `maps` (N, H, W) in 0 to 1 by network; `names`
    the networks in full; `classes` those that the maps speak for, one per image; `predicted` by
    network what it takes the images for, written over its overlays.
    """
    count = len(images)
    rows = 1 + 2 * len(maps)
    figure = Figure(figsize=(CELL_INCHES * count + 1.4, CELL_INCHES * rows), layout="constrained")
    grid = figure.add_gridspec(rows, count + 1, width_ratios=[0.55, *[1] * count])
    _row_title(figure, grid[0, 0], "image")
    for column in range(count):
        axes = figure.add_subplot(grid[0, column + 1])
        axes.imshow(images[column], cmap="gray", vmin=0, vmax=1)
        axes.set_title(classes[column], fontsize=9)
        axes.set_axis_off()
    for index, (network, heat) in enumerate(maps.items()):
        overlay, surface = 1 + 2 * index, 2 + 2 * index
        _row_title(figure, grid[overlay : surface + 1, 0], names[network])
        for column in range(count):
            axes = figure.add_subplot(grid[overlay, column + 1])
            axes.imshow(images[column], cmap="gray", vmin=0, vmax=1)
            axes.imshow(heat[column], cmap=COLOUR_MAP, vmin=0, vmax=1, alpha=OVERLAY_OPACITY)
            axes.set_axis_off()
            said = predicted[network][column]
            wrong = said != classes[column]
            axes.set_title(
                f"✗ {said}" if wrong else said, fontsize=8, color=WRONG if wrong else "black"
            )
            _surface(figure.add_subplot(grid[surface, column + 1], projection="3d"), heat[column])
    return figure


def _row_title(figure: Figure, cell: SubplotSpec, text: str) -> None:
    axes = figure.add_subplot(cell)
    axes.text(0.5, 0.5, text, rotation=90, ha="center", va="center", fontsize=9)
    axes.set_axis_off()


def _surface(axes: Axes3D, heat: NDArray[np.float32]) -> None:
    height, width = heat.shape
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    axes.plot_surface(across, down, heat, cmap=COLOUR_MAP, vmin=0, vmax=1, linewidth=0)
    axes.set_zlim(0, 1)
    # pixel rows count from the top of the picture
    axes.invert_yaxis()
    axes.set_axis_off()


def png(figure: Figure) -> bytes:
    """The figure as a PNG, without a browser."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def surface_figure(maps: Maps, names: Mapping[str, str], classes: Sequence[str]) -> go.Figure:
    """The same heat maps as surfaces that can be turned: networks down, images across.

    The first images only, as many as a browser can draw.
    """
    count = min(len(classes), max(1, MOST_SCENES // len(maps)))
    rows = {names[network]: list(heat[:count]) for network, heat in maps.items()}
    return surface_grid(rows, list(classes[:count]))


def surface_grid(
    rows: Mapping[str, Sequence[NDArray[np.float32] | None]], columns: Sequence[str]
) -> go.Figure:
    """Heat maps (H, W) as surfaces, a named row of as many as there are columns; None is a gap."""
    figure = make_subplots(
        rows=len(rows),
        cols=len(columns),
        specs=[[{"type": "surface"}] * len(columns) for _ in rows],
        horizontal_spacing=0.005,
        vertical_spacing=0.3 / len(rows) if len(rows) > 1 else 0,
        column_titles=list(columns),
    )
    for row, (name, maps) in enumerate(rows.items(), start=1):
        for column, heat in enumerate(maps, start=1):
            if heat is not None:
                surface = go.Surface(
                    z=heat,
                    cmin=0,
                    cmax=1,
                    colorscale=SEQUENTIAL,
                    showscale=False,
                    hovertemplate=f"{name}<br>%{{z:.2f}}<extra></extra>",
                )
                figure.add_trace(surface, row=row, col=column)
    # a frame without numbers: heights are read against it, on a light and on a dark page
    frame = {"showticklabels": False, "title": "", "showbackground": False, "gridcolor": GRID}
    figure.update_scenes(
        xaxis=frame,
        yaxis=frame | {"autorange": "reversed"},
        zaxis=frame | {"range": [0, 1], "nticks": 3},
        aspectmode="manual",
        aspectratio={"x": 1, "y": 1, "z": 0.7},
        camera={"eye": {"x": 0.95, "y": 1.35, "z": 0.9}},
    )
    figure.update_layout(
        height=60 + 250 * len(rows),
        margin={"l": 10, "r": 10, "t": 60, "b": 10},
        template="none",
        paper_bgcolor="rgba(0, 0, 0, 0)",
    )
    name_rows(figure, list(rows), len(columns))
    return figure


def name_rows(figure: go.Figure, names: Sequence[str], columns: int) -> None:
    """Each row's name in its upper left corner, where a narrow page shows it too."""
    for row, name in enumerate(names):
        scene = figure.layout["scene" if row == 0 else f"scene{row * columns + 1}"]
        figure.add_annotation(
            text=f"<b>{name}</b>",
            **{"x": 0, "y": scene.domain.y[1], "xref": "paper", "yref": "paper"},
            **{"xanchor": "left", "yanchor": "top", "showarrow": False},
        )


def surface_page(figure: go.Figure) -> str:
    """One HTML file that opens offline."""
    page: str = figure.to_html(include_plotlyjs="inline", full_html=True)
    return page
