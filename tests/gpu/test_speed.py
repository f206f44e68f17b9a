"""The speed of a step on a GPU against its goals, on the cohorts of the paper.

Each figure is a test of its own, so that one that misses its goal says so by itself. The plain
script, ours and the roof run in turn, 200 steps each (`tests.benchmarks.bench_trainer`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch

from tests.benchmarks.bench_trainer import Figures, measure
from tests.benchmarks.contenders import CASES, KINDS, Variant

STEPS, WORKERS = 200, 4
PRECISIONS = ("fp32", "bf16")
Note = Callable[..., None]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@functools.cache
def measured(case: str, precision: str, engine: str) -> Figures:
    """One run of one engine of a cohort; the wait and the record of the fast one only."""
    torch.backends.cudnn.benchmark = True
    kinds = list(KINDS) if engine == "graphed" else ["ours"]
    variant = Variant(precision, engine)
    (found,) = measure(
        CASES[case], "free", [variant], STEPS, 1, WORKERS, kinds, torch.device("cuda")
    )
    return found


@pytest.fixture
def figures_of(figures: Note) -> Callable[[str, str, str], Figures]:
    def noted(case: str, precision: str, engine: str) -> Figures:
        found = measured(case, precision, engine)
        figures(**{f"{case} {precision} {engine}": asdict(found)})
        return found

    return noted


CASE = pytest.mark.parametrize("case", CASES)
PRECISION = pytest.mark.parametrize("precision", PRECISIONS)


@PRECISION
@CASE
def test_a_step_is_within_a_tenth_of_the_roof(
    case: str, precision: str, figures_of: Callable[[str, str, str], Figures]
) -> None:
    assert figures_of(case, precision, "graphed").ours_to_roof >= 0.90


@CASE
def test_recording_every_link_costs_at_most_a_hundredth(
    case: str, figures_of: Callable[[str, str, str], Figures]
) -> None:
    assert figures_of(case, "bf16", "graphed").recording_percent_alone <= 1


@CASE
def test_waiting_for_the_flags_costs_at_most_a_fiftieth(
    case: str, figures_of: Callable[[str, str, str], Figures]
) -> None:
    waiting = figures_of(case, "bf16", "graphed").waiting_percent
    assert waiting is not None
    assert waiting <= 2


@pytest.mark.parametrize("case", ["cifar100"])
def test_recorded_steps_take_half_of_eager_ones(
    case: str, figures_of: Callable[[str, str, str], Figures]
) -> None:
    eager, graphed = (figures_of(case, "bf16", engine) for engine in ("eager", "graphed"))
    assert graphed.ours >= 2 * eager.ours


@pytest.mark.parametrize("case", ["cifar100", "cifar10"])
def test_ours_is_twelve_times_the_plain_script(
    case: str, figures_of: Callable[[str, str, str], Figures]
) -> None:
    assert figures_of(case, "bf16", "graphed").ours_to_plain >= 12
