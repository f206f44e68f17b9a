"""Which runs stand side by side, and the agreement numbers over seeds by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dashboards.analysis.explanations import (
    HeatMaps,
    NetworkMaps,
    Source,
    agreement_table,
    method_rows,
    read_heat_maps,
    read_numbers,
    row_maps,
)
from dashboards.analysis.grouping import grouped
from dashboards.figures.overlay_grid import overlay_grid
from switokd.inspection.explain import Explanation
from tests.dashboards.conftest import Record, frame_of, record

PAIR = "wrn_16_2>resnet20"


def heat_maps(count: int = 3, *networks: str, seed: int = 0) -> HeatMaps:
    draw = np.random.default_rng(seed)
    # the same images whatever the seed, as a test set gives them
    images = np.random.default_rng(9).random((5, 4, 4), dtype=np.float32)[:count]
    maps = {name: draw.random((count, 4, 4), dtype=np.float32) for name in networks}
    classes = [f"class {at}" for at in range(count)]
    # each but the first network takes the second image for the first
    predicted = {name: [classes[0], *classes[:1], *classes[2:]][:count] for name in networks[1:]}
    predicted |= dict.fromkeys(networks[:1], classes)
    return HeatMaps(images, classes, maps, predicted)


def test_arrays_come_back_as_they_were_but_for_rounding() -> None:
    written = heat_maps(3, "T1", "S1")
    explanation = Explanation(
        written.images, written.maps, {}, written.classes, [], written.predicted
    )
    read = read_heat_maps(explanation.arrays())
    assert read.classes == written.classes
    assert read.predicted == written.predicted
    np.testing.assert_allclose(read.images, written.images, atol=0.5 / 255)
    assert read.maps.keys() == {"T1", "S1"}
    for network, maps in read.maps.items():
        np.testing.assert_allclose(maps, written.maps[network], atol=0.5 / 255)


def test_a_pairs_rows_are_its_networks_alone_then_every_method(quickstart: list[Record]) -> None:
    trials = frame_of(quickstart)
    rows = method_rows(trials, PAIR, seed=1)
    assert list(rows) == ["vanilla", "dml τ=1", "dml τ=2", "switokd τ=1", "switokd τ=2"]
    by_run = trials.set_index("run_id")
    assert [(source.network, source.stored_as) for source in rows["vanilla"]] == [
        ("T1", "S1"),
        ("S1", "S1"),
    ]
    assert [by_run.loc[source.run_id, "pair"] for source in rows["vanilla"]] == [
        "wrn_16_2",
        "resnet20",
    ]
    for name, sources in rows.items():
        for source in sources:
            assert by_run.loc[source.run_id, "seed"] == 1
            assert name.startswith(by_run.loc[source.run_id, "method"])
    assert [source.network for source in rows["dml τ=1"]] == ["T1", "S1"]


def test_rows_are_cut_to_the_images_that_all_have() -> None:
    rows = {
        "dml": [Source("T1", "a", "T1"), Source("S1", "a", "S1")],
        "switokd": [Source("T1", "b", "T1"), Source("S1", "b", "S1")],
        "kdcl": [Source("S1", "nowhere", "S1")],
    }
    explained = {"a": heat_maps(5, "T1", "S1"), "b": heat_maps(2, "T1", "S1", seed=1)}
    shown, drawn, others = row_maps(rows, explained)
    assert shown is not None
    assert (len(shown.images), len(shown.classes), others) == (2, 2, [])
    assert list(drawn) == ["dml", "switokd"]
    assert {len(own.maps) for row in drawn.values() for own in row.values()} == {2}
    np.testing.assert_array_equal(drawn["dml"]["T1"].maps, explained["a"].maps["T1"][:2])
    assert drawn["dml"]["S1"].predicted == ["class 0", "class 0"]


def test_a_run_explained_on_other_images_is_left_out_and_named() -> None:
    rows = {"dml": [Source("S1", "a", "S1")], "switokd": [Source("S1", "b", "S1")]}
    other = heat_maps(3, "S1")
    explained = {"a": heat_maps(3, "S1"), "b": other._replace(images=1 - other.images)}
    _, drawn, others = row_maps(rows, explained)
    assert (list(drawn), others) == (["dml"], ["switokd"])
    assert row_maps(rows, {}) == (None, {}, [])


def test_agreement_is_averaged_over_the_explained_seeds() -> None:
    trials = grouped(frame_of([record(seed=seed) for seed in (0, 1, 2)]))
    numbers = {
        run_id: {
            "peak_overlap T1-S1": overlap,
            "correlation T1-S1": 0.5,
            "images T1-S1": 359.0,
            "flat_images T1-S1": flat,
        }
        for run_id, overlap, flat in zip(trials["run_id"][:2], (0.2, 0.4), (0.0, 2.0), strict=True)
    }
    (row,) = agreement_table(trials, numbers).to_dict("records")
    assert (row["method"], row["link"], row["seeds"]) == ("switokd τ=1", "T1-S1", 2)
    assert (row["peak overlap"], row["correlation"]) == pytest.approx((0.3, 0.5))
    assert row["overlap ±"] == pytest.approx(0.2 / 2**0.5)
    assert (row["test images"], row["flat maps"]) == (359, 1)
    assert agreement_table(trials, {}).empty


def test_anything_but_numbers_is_passed_over() -> None:
    content = b'{"peak_overlap T1-S1": 0.5, "per_image": [1, 2]}'
    assert read_numbers(content) == {"peak_overlap T1-S1": 0.5}
    assert read_numbers(b"[1]") == {}


def test_the_grid_has_a_line_per_row_and_a_cell_per_image_and_network() -> None:
    shown = heat_maps(3, "T1", "S1")
    rows = {
        "dml <1>": {name: shown.of(name) for name in shown.maps},
        # of an older run, which does not say its predictions
        "vanilla": {"S1": NetworkMaps(shown.maps["S1"], [])},
    }
    page = overlay_grid(shown, rows, {"T1": "wrn_16_2", "S1": "resnet20"})
    assert page.count('<div class="line">') == 3
    assert page.count("<img") == 3 + 6 + 3
    assert page.count('<div class="blank">') == 3
    assert page.count('alt="dml &lt;1&gt;, T1 wrn_16_2"') == 3
    assert "<1>" not in page
    assert page.count('<div class="said">') == 5
    assert page.count("✗ class 0") == 1
