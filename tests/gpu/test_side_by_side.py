"""Several trials in one process, each in a thread with a CUDA stream: equal bits, and how fast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.bench_shared_gpu import measured
from tests.gpu.test_cuda import spec
from tests.session.killed_trials import assert_equal_results, side_by_side, train


@pytest.mark.timeout(300)
def test_side_by_side_trials_end_in_the_bits_of_each_alone(tmp_path: Path) -> None:
    """Cohorts, engines and precisions mixed, and lengths: they record while others replay."""
    trials = [
        spec(cohort, method, engine=engine, precision=precision, epochs=epochs)
        for cohort, method, engine, precision in (
            ("1T1S", "switokd", "graphed", "bf16"),
            ("2T1S", "switokd", "graphed", "fp32"),
            ("1T2S", "switokd", "eager", "bf16"),
            ("1T1S", "dml", "graphed", "bf16"),
        )
        for epochs in (2, 3)
    ]
    alone = [train(trial, tmp_path / "alone") for trial in trials]
    together = side_by_side(trials, tmp_path / "together")
    for result, undisturbed in zip(together, alone, strict=True):
        assert_equal_results(result, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_eight_trials_reach_about_twice_the_throughput_of_one(figures: Callable[..., None]) -> None:
    """wrn_16_2 > resnet20, graphed, bf16; and 1.3 times that of eight processes."""
    found = measured("bf16", "graphed", [8], seconds=3.0)[0]
    figures(side_by_side=found)
    assert found["threads"] >= 1.8 * found["alone"]
    assert found["threads"] >= 1.3 * found["processes"]
