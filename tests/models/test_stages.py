"""The stages whose maps a method may ask for."""

from __future__ import annotations

import itertools

import pytest

from switokd.models import MODELS, build_model, stage_of
from switokd.training.maps import MapRecorder


@pytest.mark.parametrize("name", MODELS)
def test_stages_lead_from_fine_to_coarse_maps(name: str) -> None:
    network = build_model(name, 10)
    count = len(MODELS.load(name).stages)
    assert count >= 3
    stages = {f"stage{n}": stage_of(name, network, f"stage{n}") for n in range(1, count + 1)}
    recorder = MapRecorder({"S1": stages})
    shapes = list(recorder.shapes({"S1": network}, 64)["S1"].values())
    assert network.training, "the mode it was in"
    assert len(shapes) == count
    for (_, height, width), (_, lower, narrower) in itertools.pairwise(shapes):
        assert height == width
        assert (lower, narrower) <= (height, width)
    assert shapes[0][1] > shapes[-1][1]
