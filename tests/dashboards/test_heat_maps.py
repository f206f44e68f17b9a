"""What the Grad-CAM figures show, read back from the figures."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from dashboards.figures.heat_maps import (
    COLOUR_MAP,
    MOST_SCENES,
    WRONG,
    overlay_figure,
    png,
    surface_figure,
    surface_grid,
    surface_page,
)
from dashboards.figures.overlay_grid import colour_scale

MAPS = {
    name: np.random.default_rng(seed).random((3, 4, 4), dtype=np.float32)
    for seed, name in enumerate(("T1", "S1"))
}
NAMES = {"T1": "T1 wrn_16_2", "S1": "S1 resnet20"}
CLASSES = ["cat", "dog", "owl"]
SAID = {"T1": CLASSES, "S1": ["cat", "owl", "cat"]}


def test_overlay_has_an_image_row_and_two_rows_a_network() -> None:
    images = np.zeros((3, 4, 4), dtype=np.float32)
    figure = overlay_figure(images, MAPS, NAMES, CLASSES, SAID)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert titles == [*CLASSES, *CLASSES, "cat", "✗ owl", "✗ cat"]
    wrong = {axes.get_title() for axes in figure.axes if axes.title.get_color() == WRONG}
    assert wrong == {"✗ owl", "✗ cat"}
    assert texts == ["image", "T1 wrn_16_2", "S1 resnet20"]
    overlaid = [axes.images[1].get_array() for axes in figure.axes if len(axes.images) == 2]
    assert len(overlaid) == 6
    for shown, (network, column) in zip(
        overlaid, [(n, c) for n in MAPS for c in range(3)], strict=True
    ):
        np.testing.assert_array_equal(shown, MAPS[network][column])


def test_png_is_a_picture_of_the_figures_size() -> None:
    figure = overlay_figure(np.zeros((3, 4, 4), dtype=np.float32), MAPS, NAMES, CLASSES, SAID)
    picture = Image.open(io.BytesIO(png(figure)))
    assert picture.format == "PNG"
    assert picture.width / picture.height == pytest.approx(
        figure.get_figwidth() / figure.get_figheight(), rel=0.01
    )


def test_surfaces_hold_the_maps_in_the_order_of_the_grid() -> None:
    figure = surface_figure(MAPS, NAMES, CLASSES)
    expected = [MAPS[network][column] for network in MAPS for column in range(3)]
    assert len(figure.data) == len(expected)
    for surface, heat in zip(figure.data, expected, strict=True):
        np.testing.assert_allclose(surface.z, heat)


def test_no_more_surfaces_than_a_browser_draws() -> None:
    maps = {name: np.zeros((8, 4, 4), dtype=np.float32) for name in ("T1", "T2", "S1")}
    figure = surface_figure(maps, {name: name for name in maps}, [str(at) for at in range(8)])
    assert len(figure.data) == 15 <= MOST_SCENES
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["0", "1", "2", "3", "4", "<b>T1</b>", "<b>T2</b>", "<b>S1</b>"]


def test_a_missing_map_leaves_a_gap_in_its_row() -> None:
    heat = np.zeros((4, 4), dtype=np.float32)
    figure = surface_grid({"dml": [heat, heat], "vanilla": [None, heat]}, ["T1", "S1"])
    assert [surface.scene or "scene" for surface in figure.data] == ["scene", "scene2", "scene4"]


def test_surface_page_opens_offline() -> None:
    page = surface_page(surface_figure(MAPS, NAMES, CLASSES))
    assert "<script src=" not in page
    assert "T1 wrn_16_2" in page


def test_the_colour_scale_goes_from_the_maps_lowest_to_its_highest_colour() -> None:
    colours = re.findall(r"rgb\((\d+), (\d+), (\d+)\)", colour_scale())
    ends = [tuple(round(255 * part) for part in colormaps[COLOUR_MAP](at)[:3]) for at in (0.0, 1.0)]
    assert [tuple(map(int, colours[0])), tuple(map(int, colours[-1]))] == ends
